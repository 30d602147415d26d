"""DeviceFeed against a loader that is obvious: one list of batches, one integer of state."""

import gc
import json
import subprocess
import sys
import threading
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from streamkit_jax import DeviceFeed, FeedStats

import streamkit as sk


class Batches:
    """Counts like a Loader: a pass goes from the position to the end, the next starts over."""

    def __init__(self, batches, *, fail_at=None):
        self.batches = batches
        self.fail_at = fail_at
        self.position = 0
        self.taken = 0

    def __iter__(self):
        while True:
            if self.position == self.fail_at:
                raise KeyError("bad sample 17")
            batch = self.batches[self.position]
            self.taken += 1
            self.position += 1
            last = self.position == len(self.batches)
            if last:
                self.position = 0
            yield batch
            if last:
                return

    def __len__(self):
        return len(self.batches)

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]

    def close(self):
        pass


class WithSpec(Batches):
    def __init__(self, batches, element_spec):
        super().__init__(batches)
        self.element_spec = element_spec


def numbered(count=8, **options):
    return Batches([{"x": np.full((2, 3), i, np.float32)} for i in range(count)], **options)


def first(batch):
    return int(batch["x"][0, 0])


def feed_threads():
    return [t for t in threading.enumerate() if t.name == "streamkit-jax-feed"]


def test_a_pass_gives_every_batch_in_order_and_the_next_pass_starts_over():
    feed = DeviceFeed(numbered())
    for _ in range(2):
        batches = list(feed)
        assert [first(b) for b in batches] == list(range(8))
        assert all(isinstance(b["x"], jax.Array) for b in batches)
    assert len(feed) == 8


def test_batches_that_the_caller_keeps_never_change():
    loader = Batches([np.arange(i, i + 64, dtype=np.int32).reshape(4, 16) for i in range(40)])
    expected = [b.copy() for b in loader.batches]
    for kept, want in zip(list(DeviceFeed(loader, prefetch=3)), expected, strict=True):
        np.testing.assert_array_equal(kept, want)


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_state_counts_what_the_caller_was_given(prefetch):
    loader = numbered()
    feed = DeviceFeed(loader, prefetch=prefetch)
    seen = []
    for i, _ in enumerate(feed):
        seen.append(feed.state_dict()["position"])
        assert loader.taken <= i + 1 + prefetch
    assert seen == [1, 2, 3, 4, 5, 6, 7, 0]


@pytest.mark.parametrize("stop", range(1, 9))
def test_resume_in_a_new_feed_continues_the_sequence(stop):
    feed = DeviceFeed(numbered())
    iterator = iter(feed)
    before = [first(next(iterator)) for _ in range(stop)]
    resumed = DeviceFeed(numbered(), prefetch=1)
    resumed.load_state_dict(feed.state_dict())
    after = [first(b) for b in resumed]
    # After the last batch of a pass comes a whole pass, not an empty one.
    assert before + after == list(range(8)) + (list(range(8)) if stop == 8 else [])


def test_break_puts_the_loader_back_to_what_was_handed_out():
    loader = numbered()
    feed = DeviceFeed(loader, prefetch=4)
    for batch in feed:
        if first(batch) == 2:
            break
    feed.close()
    assert loader.state_dict() == feed.state_dict() == {"position": 3}
    assert [first(b) for b in feed] == [3, 4, 5, 6, 7]
    assert not feed_threads()


def test_state_is_right_from_another_thread():
    feed = DeviceFeed(numbered(), prefetch=3)
    handed, told = threading.Barrier(2), threading.Barrier(2)

    def consume():
        for _ in feed:
            handed.wait(60)
            told.wait(60)

    thread = threading.Thread(target=consume)
    thread.start()
    positions = []
    for _ in range(8):
        handed.wait(60)
        positions.append(feed.state_dict()["position"])
        told.wait(60)
    thread.join()
    assert positions == [1, 2, 3, 4, 5, 6, 7, 0]


def test_an_error_reaches_the_caller_at_its_batch_with_its_traceback():
    loader = numbered(fail_at=3)
    feed = DeviceFeed(loader, prefetch=5)
    iterator = iter(feed)
    assert [first(next(iterator)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="bad sample 17") as caught:
        next(iterator)
    assert caught.traceback[-1].path.name == "test_jax_feed.py"
    assert feed.state_dict() == {"position": 3}
    assert not feed_threads()
    loader.fail_at = None
    assert [first(b) for b in feed] == [3, 4, 5, 6, 7]


def test_a_second_iteration_ends_the_first_and_says_so():
    feed = DeviceFeed(numbered())
    old = iter(feed)
    assert first(next(old)) == 0
    new = iter(feed)
    assert first(next(new)) == 1
    with pytest.raises(RuntimeError, match="ended by a second iter"):
        next(old)
    assert first(next(new)) == 2


def test_loading_a_state_ends_the_running_iteration():
    feed = DeviceFeed(numbered())
    old = iter(feed)
    next(old)
    feed.load_state_dict({"position": 6})
    with pytest.raises(RuntimeError, match="load_state_dict"):
        next(old)
    assert feed.state_dict() == {"position": 6}
    assert [first(b) for b in feed] == [6, 7]


def test_dropping_the_iterator_ends_the_thread():
    iterator = iter(DeviceFeed(numbered(), prefetch=1))
    next(iterator)
    assert len(feed_threads()) == 1
    del iterator
    gc.collect()
    assert not feed_threads()


def test_a_batch_that_the_caller_drops_leaves_the_device():
    iterator = iter(DeviceFeed(numbered()))
    batch = next(iterator)
    alive = weakref.ref(batch["x"])
    del batch
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("ending", "status"), [("", 0), ("raise SystemExit(3)", 3), ("raise ValueError('stop')", 1)]
)
def test_the_interpreter_ends_in_the_middle_of_a_pass(ending, status):
    code = f"""
import numpy as np
from streamkit_jax import DeviceFeed
class Endless:
    def __iter__(self):
        while True:
            yield np.zeros((256, 256), np.float32)
    def __len__(self): raise TypeError
    def state_dict(self): return {{}}
    def load_state_dict(self, state): pass
    def close(self): pass
iterator = iter(DeviceFeed(Endless(), prefetch=4))
print(next(iterator).shape, flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "(256, 256)\n"
    assert done.returncode == status
    assert ("ValueError: stop" in done.stderr) == ("ValueError" in ending)
    assert "Fatal" not in done.stderr


def test_numbers_go_to_the_device_and_the_rest_stays():
    batch = {
        "image": np.zeros((2, 4, 4), np.uint8),
        "pair": (np.ones(2, np.float16), np.array([True, False])),
        "half": np.ones((2, 3), ml_dtypes.bfloat16),
        "text": ["a", "b"],
        "raw": [b"a", b"b"],
        "when": np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"),
        "nothing": None,
    }
    (out,) = DeviceFeed(Batches([batch]))
    assert isinstance(out["image"], jax.Array)
    assert out["image"].dtype == np.uint8
    assert [type(x) for x in out["pair"]] == [type(out["image"])] * 2
    assert out["half"].dtype == ml_dtypes.bfloat16
    assert isinstance(out["half"], jax.Array)
    assert out["text"] == ["a", "b"]
    assert out["raw"] == [b"a", b"b"]
    assert out["when"] is batch["when"]
    assert out["nothing"] is None


def test_the_spec_tells_a_ragged_column_from_a_list_of_columns():
    ragged = [np.arange(2), np.arange(2)]
    batch = {"ragged": ragged, "columns": [np.zeros(2, np.int8), np.zeros(2, np.int8)]}
    spec = {"ragged": "ragged", "columns": ["int8", "int8"]}
    (out,) = DeviceFeed(WithSpec([batch], spec))
    assert out["ragged"] is ragged
    assert all(isinstance(c, jax.Array) for c in out["columns"])


@pytest.mark.parametrize(
    ("dtype", "narrow", "good", "bad"),
    [
        (np.int64, np.int32, [-(2**31), 2**31 - 1], 2**31),
        (np.int64, np.int32, [0], -(2**31) - 1),
        (np.uint64, np.uint32, [0, 2**32 - 1], 2**32),
    ],
)
def test_64_bit_integers_are_narrowed_only_if_they_fit(dtype, narrow, good, bad):
    fits = {"a": {"ids": np.array(good, dtype)}}
    feed = DeviceFeed(Batches([fits, {"a": {"ids": np.array([*good, bad], dtype)}}]))
    iterator = iter(feed)
    out = next(iterator)["a"]["ids"]
    assert out.dtype == narrow
    assert out.tolist() == good
    with pytest.raises(OverflowError, match=rf"\['a'\]\['ids'\].*{bad}.*enable_x64"):
        next(iterator)
    assert feed.state_dict() == {"position": 1}


def test_an_empty_integer_column_is_narrowed():
    (out,) = DeviceFeed(Batches([np.zeros((2, 0), np.int64)]))
    assert (out.shape, out.dtype) == ((2, 0), np.int32)


def test_with_x64_on_nothing_is_narrowed():
    jax.config.update("jax_enable_x64", True)
    try:
        (out,) = DeviceFeed(Batches([np.array([2**40])]))
        assert out.dtype == np.int64
        assert out.tolist() == [2**40]
    finally:
        jax.config.update("jax_enable_x64", False)


def test_a_device_or_a_sharding_is_where_the_batch_lies():
    device = jax.devices()[0]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    for target, want in [(device, SingleDeviceSharding(device)), (sharding, sharding)]:
        assert all(b["x"].sharding == want for b in DeviceFeed(numbered(), target))


def test_stats_count_batches_and_waiting():
    feed = DeviceFeed(numbered())
    assert feed.stats == FeedStats(0, 0.0, 0.0)
    assert feed.stats.wait_share == 0
    list(feed)
    list(feed)
    assert feed.stats.batches == 16
    assert 0 < feed.stats.wait_seconds <= feed.stats.run_seconds
    assert 0 < feed.stats.wait_share <= 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"prefetch \(=0\) must be at least 1"):
        DeviceFeed(numbered(), prefetch=0)


class Stalled(Batches):
    """Gives one batch; the next never comes, until `close` interrupts the waiting."""

    def __init__(self, batches):
        super().__init__(batches)
        self.waiting, self.closed = threading.Event(), threading.Event()

    def __iter__(self):
        yield from self.batches[:1]
        self.waiting.set()
        self.closed.wait(250)
        raise KeyError("the loader was closed")

    def close(self):
        self.closed.set()


def test_leaving_wakes_a_thread_that_waits_for_a_batch():
    next(iter(DeviceFeed(Stalled(numbered().batches))))
    assert not feed_threads()


def test_close_wakes_a_caller_that_waits_for_a_batch():
    loader = Stalled(numbered().batches)
    feed = DeviceFeed(loader)
    raised = []

    def consume():
        try:
            list(feed)
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=consume)
    thread.start()
    loader.waiting.wait(60)
    feed.close()
    thread.join(60)
    assert not thread.is_alive()
    assert "close()" in raised[0]


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    with sk.DatasetWriter(tmp_path / "data", chunk_bytes="4kB") as writer:
        for i in range(100):
            tokens = np.arange(i, i + rng.integers(1, 40), dtype=np.int32)
            writer.write(
                {"id": i, "x": np.full(8, i, np.float32), "tokens": tokens, "name": f"{i}"}
            )
    return sk.open(tmp_path / "data")


def loader_of(ds, **options):
    return sk.Loader(ds, batch_size=8, shuffle=True, seed=3, **options)


def test_a_loader_s_batches_come_through_unchanged(written):
    feed = DeviceFeed(loader_of(written, pad={"tokens": (40, -1)}))
    plain = loader_of(written, pad={"tokens": (40, -1)})
    steps = 0
    for got, want in zip(feed, plain, strict=True):
        assert isinstance(got["tokens"], jax.Array)
        assert got["name"] == want["name"]
        for column in ("id", "x", "tokens"):
            np.testing.assert_array_equal(got[column], want[column])
        assert feed.state_dict() == plain.state_dict()
        steps += 1
    assert steps == len(feed) == 12


def test_a_ragged_column_stays_on_the_host(written):
    batch = next(iter(DeviceFeed(loader_of(written))))
    assert [type(row) for row in batch["tokens"]] == [np.ndarray] * 8


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("stop", [1, 5, 12, 17])
def test_stop_and_resume_equal_an_uninterrupted_run(written, stop, threads):
    whole = [b["id"].tolist() for b in loader_of(written, epochs=2)]
    feed = DeviceFeed(loader_of(written, epochs=2, threads=threads), prefetch=3)
    before = [b["id"].tolist() for _, b in zip(range(stop), feed, strict=False)]
    resumed = DeviceFeed(loader_of(written, epochs=2, threads=threads))
    resumed.load_state_dict(json.loads(json.dumps(feed.state_dict())))
    assert before + [b["id"].tolist() for b in resumed] == whole


def test_a_bad_sample_is_raised_at_its_batch_and_does_not_lose_it(written):
    bad = [True]

    def transform(sample, rng):
        if sample["id"] == 50 and bad:
            raise ArithmeticError("no such picture")
        return {"id": sample["id"]}

    whole = [b["id"].tolist() for b in loader_of(written)]
    at = next(i for i, ids in enumerate(whole) if 50 in ids)
    feed = DeviceFeed(loader_of(written, transform=transform), prefetch=5)
    seen = []
    with pytest.raises(sk.SampleError, match="50") as caught:
        seen.extend(b["id"].tolist() for b in feed)
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert seen == whole[:at]
    bad.clear()
    assert feed.state_dict()["position"] == 8 * at
    assert seen + [b["id"].tolist() for b in feed] == whole


def test_leaving_the_loop_leaves_no_thread(written):
    before = set(threading.enumerate())
    for _ in DeviceFeed(loader_of(written, threads=3)):
        break
    gc.collect()
    assert set(threading.enumerate()) == before
