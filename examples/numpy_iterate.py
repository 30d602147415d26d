"""Write a dataset, iterate it shuffled, stop, resume, and look at any sample or batch.

python examples/numpy_iterate.py [FOLDER]
"""

import json
import sys
import tempfile

import numpy as np

import streamkit as sk


def main(folder):
    with sk.DatasetWriter(folder, chunk_bytes="100kB", mode="overwrite") as writer:
        for i in range(10_000):
            image = np.full((8, 8), i % 256, np.uint8)
            writer.write({"id": i, "image": image, "caption": f"picture {i}"})

    ds = sk.open(folder)
    print(f"{len(ds):,} samples in {len(ds.chunk_sizes)} chunks")
    print("random access:", ds[42]["caption"], "...", ds[-1]["caption"])

    loader = sk.Loader(ds, batch_size=256, shuffle=True, seed=0)
    seen = []
    for batch in loader:  # {"id": [256], "image": [256, 8, 8], "caption": list of 256 str}
        seen.append(batch["id"])
        if len(seen) == 10:
            break
    state = json.dumps(loader.state_dict())
    print(f"stopped after {len(seen)} batches; the state is {len(state)} bytes: {state}")

    # Another process, machine, or number of processes would go on the same way.
    resumed = sk.Loader(ds, batch_size=256, shuffle=True, seed=0)
    resumed.load_state_dict(json.loads(state))
    seen.extend(batch["id"] for batch in resumed)

    ids = np.concatenate(seen)
    assert len(np.unique(ids)) == len(ids) == len(loader) * 256
    print(f"resumed; {len(ids):,} samples in {len(seen)} batches, each once")

    again = loader.batch(7)  # any batch, without iterating
    assert np.array_equal(again["id"], seen[7])
    print("batch 7 again:", again["id"][:5], "...")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
