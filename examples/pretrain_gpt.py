"""Train a small GPT on the sources of Python's standard library, stop it half-way, and resume.

The text is tokenized, written in chunks, shuffled and streamed by streamkit. Training runs in two
processes: the first saves a checkpoint half-way and exits, the second goes on from it. This
process then reads the batches once more without any stop and compares.

    python examples/pretrain_gpt.py                       # about two minutes on two cores
    python examples/pretrain_gpt.py --steps 1000 --dim 256 --layers 6
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from streamkit_jax import DeviceFeed
from tokenizers import ByteLevelBPETokenizer
from tqdm import tqdm

import streamkit as sk

# --------------------------------------------------------------------------- the data


def read_sources(max_bytes):
    """Yield the standard library's files, skipping the few that are not UTF-8 on purpose."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if max_bytes <= 0:
            return
        if "site-packages" in path.parts or "dist-packages" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        max_bytes -= len(text)
        yield str(path.relative_to(root)), text


def prepare(args):
    """Train the tokenizer, then write every document's tokens; one in fifty is held out."""
    started = time.perf_counter()
    documents = list(read_sources(int(args.megabytes * 1e6)))
    held = set(range(0, len(documents), args.hold_out_every))

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        (text for i, (_, text) in enumerate(documents) if i not in held),
        vocab_size=args.vocab,
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    end = tokenizer.token_to_id("<|end|>")

    num_tokens = 0
    with (
        sk.DatasetWriter(args.output / "train", chunk_bytes="500kB", mode="overwrite") as train,
        sk.DatasetWriter(args.output / "held-out", mode="overwrite") as held_out,
    ):
        for start in range(0, len(documents), 64):
            names, texts = zip(*documents[start : start + 64], strict=True)
            for i, one in enumerate(tokenizer.encode_batch(texts)):
                tokens = np.array([*one.ids, end], dtype=np.uint16)
                num_tokens += len(tokens)
                writer = held_out if start + i in held else train
                writer.write({"tokens": tokens, "file": names[i]})
    print(
        f"prepared {len(documents):,} files, {num_tokens:,} tokens, vocabulary "
        f"{tokenizer.get_vocab_size():,}, in {time.perf_counter() - started:.0f} s"
    )


def train_loader(args):
    """Every process builds the same loader; where it begins is decided by the state alone."""
    blocks = sk.TokenBlocks(sk.open(args.output / "train"), block_size=args.seq_len + 1)
    return sk.Loader(blocks, batch_size=args.batch_size, shuffle=True, seed=args.seed, epochs=None)


def held_out_batches(args):
    """The same sample of held-out blocks for the model and for the unigram model."""
    blocks = sk.TokenBlocks(sk.open(args.output / "held-out"), block_size=args.seq_len + 1)
    size = min(args.batch_size, len(blocks))
    loader = sk.Loader(blocks, batch_size=size, shuffle=True, seed=1, epochs=1)
    return [batch["tokens"] for _, batch in zip(range(args.eval_steps), loader, strict=False)]


def fingerprint(tokens):
    return hashlib.blake2b(np.asarray(tokens).tobytes(), digest_size=8).hexdigest()


# --------------------------------------------------------------------------- the model


def init_params(key, vocab, dim, layers):
    def normal(shape, scale):
        nonlocal key
        key, sub = jax.random.split(key)
        return scale * jax.random.normal(sub, shape)

    deep = (2 * layers) ** -0.5  # keeps the residual stream's scale independent of the depth
    return {
        "embed": normal((vocab, dim), 0.02),
        "norm": jnp.ones(dim),
        "blocks": {  # all layers in one array each, for jax.lax.scan
            "norm1": jnp.ones((layers, dim)),
            "qkv": normal((layers, dim, 3 * dim), dim**-0.5),
            "out": normal((layers, dim, dim), deep * dim**-0.5),
            "norm2": jnp.ones((layers, dim)),
            "up": normal((layers, dim, 4 * dim), dim**-0.5),
            "down": normal((layers, 4 * dim, dim), deep * (4 * dim) ** -0.5),
        },
    }


def rms_norm(x, gain):
    return gain * x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def rotate(x):
    """Rotary position embedding of `[batch, seq, heads, head_dim]`."""
    half = x.shape[-1] // 2
    angle = jnp.arange(x.shape[1])[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def loss_fn(params, tokens, heads):
    """Mean cross-entropy in nats of the next token, over `tokens` `[batch, seq_len + 1]`."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    x = params["embed"][inputs] * params["embed"].shape[1] ** 0.5

    def block(x, w):
        qkv = (rms_norm(x, w["norm1"]) @ w["qkv"]).reshape(*x.shape[:2], 3 * heads, -1)
        q, k, v = jnp.split(qkv, 3, axis=2)
        attended = jax.nn.dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + attended.reshape(x.shape) @ w["out"]
        return x + jax.nn.gelu(rms_norm(x, w["norm2"]) @ w["up"]) @ w["down"], None

    x, _ = jax.lax.scan(block, x, params["blocks"])
    logits = rms_norm(x, params["norm"]) @ params["embed"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


# --------------------------------------------------------------------------- training


def save(path, step, trained, loader_state):
    """Model, optimizer and data position in one file, replaced at once: they never disagree."""
    arrays = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(trained))}
    with open(path.with_suffix(".tmp"), "wb") as file:
        np.savez(file, step=step, loader=json.dumps(loader_state), **arrays)
    os.replace(path.with_suffix(".tmp"), path)


def restore(path, trained):
    with np.load(path) as saved:
        leaves, tree = jax.tree.flatten(trained)
        leaves = [jnp.asarray(saved[f"leaf{i}"]) for i in range(len(leaves))]
        return int(saved["step"]), tree.unflatten(leaves), json.loads(str(saved["loader"]))


def train(args):
    """Train up to step `args.until`, from the checkpoint if there is one."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, args.lr, args.steps // 10, args.steps, args.lr / 10
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.95, weight_decay=0.1)
    )
    params = init_params(jax.random.key(args.seed), args.vocab, args.dim, args.layers)
    trained = (params, optimizer.init(params))

    feed = DeviceFeed(train_loader(args))
    checkpoint, first = args.output / "checkpoint.npz", 0
    if checkpoint.exists():
        first, trained, loader_state = restore(checkpoint, trained)
        feed.load_state_dict(loader_state)
        print(f"process {os.getpid()} resumes after step {first} from {json.dumps(loader_state)}")

    @jax.jit
    def train_step(trained, tokens):
        params, state = trained
        loss, gradient = jax.value_and_grad(loss_fn)(params, tokens, args.heads)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    hashes, losses = [], []
    with tqdm(total=args.steps, initial=first, unit="step", dynamic_ncols=True) as bar:
        for step, batch in zip(range(first, args.until), feed, strict=False):
            trained, loss = train_step(trained, batch["tokens"])
            hashes.append(fingerprint(batch["tokens"]))
            losses.append(loss)
            if step == first:
                loss.block_until_ready()  # compiled: the clock shows training from here on
                started = time.perf_counter()
            else:
                before = float(losses[-2])  # to wait for this step's loss would stop the device
                speed = (step - first - 1) * batch["tokens"].size / (time.perf_counter() - started)
                waited = f"{feed.stats.wait_share:.1%}"
                figures = {"loss": f"{before:.3f}", "tokens_s": f"{speed:,.0f}", "waiting": waited}
                bar.set_postfix(figures, refresh=False)
            bar.update()
    save(checkpoint, args.until, trained, feed.state_dict())
    feed.close()

    with open(args.output / "steps.jsonl", "a") as log:
        for step, (batch_hash, loss) in enumerate(zip(hashes, losses, strict=True), first):
            record = {"step": step, "batch": batch_hash, "loss": float(loss), "pid": os.getpid()}
            log.write(json.dumps(record) + "\n")
    if args.until == args.steps:
        evaluate = jax.jit(lambda tokens: loss_fn(trained[0], tokens, args.heads))
        held_out = float(np.mean([evaluate(tokens) for tokens in held_out_batches(args)]))
        (args.output / "held-out.json").write_text(json.dumps(held_out))


# --------------------------------------------------------------------------- what came of it


def unigram_loss(args):
    """The held-out loss of a model that knows only how often each token occurs."""
    blocks = sk.TokenBlocks(sk.open(args.output / "train"), block_size=args.seq_len + 1)
    counts = np.ones(args.vocab)
    for batch in sk.Loader(blocks, batch_size=1024, shuffle=False, remainder="keep"):
        counts += np.bincount(batch["tokens"].ravel(), minlength=args.vocab)
    log_p = np.log(counts / counts.sum())
    return float(np.mean([-log_p[tokens[:, 1:]].mean() for tokens in held_out_batches(args)]))


def plot(path, records, resumed_at, levels):
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot([r["step"] for r in records], [r["loss"] for r in records], label="training loss")
    axes.axvline(
        resumed_at, color="black", linestyle=":", label="stopped; resumed by a new process"
    )
    for color, (name, level) in zip(("C1", "C2", "C3"), levels.items(), strict=True):
        axes.axhline(level, color=color, linestyle="--", label=f"{name}: {level:.2f}")
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.legend()
    figure.savefig(path, dpi=120)


def report(args):
    """Compare with a run that never stopped, and with the two limits; return the exit code."""
    records = [json.loads(line) for line in (args.output / "steps.jsonl").read_text().splitlines()]
    half = args.steps // 2
    unstopped = [
        fingerprint(batch["tokens"])
        for _, batch in zip(range(args.steps), train_loader(args), strict=False)
    ]
    trained_on = [record["batch"] for record in records]
    held_out = json.loads((args.output / "held-out.json").read_text())
    unigram, limit = unigram_loss(args), 0.7 * math.log(args.vocab)
    levels = {"held-out loss": held_out, "unigram, held out": unigram, "70% of ln(vocab)": limit}
    plot(args.output / "loss.png", records, half, levels)

    checks = {
        f"the {args.steps - half} batches after the resume, in another process, equal those of a "
        "run that never stopped": trained_on[half:] == unstopped[half:]
        and records[half - 1]["pid"] != records[half]["pid"],
        f"all {args.steps} batches, before and after the stop, equal that run's: none lost, none "
        "repeated": trained_on == unstopped,
        f"held-out loss {held_out:.3f} < {unigram:.3f}, the unigram model's": held_out < unigram,
        f"held-out loss {held_out:.3f} < {limit:.3f}, 70% of ln({args.vocab})": held_out < limit,
    }
    for claim, holds in checks.items():
        print("PASS" if holds else "FAIL", claim)
    print(f"plot of the loss, with the resume marked: {args.output / 'loss.png'}")
    return 0 if all(checks.values()) else 1


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--megabytes", type=float, default=32, help="text to read at most")
    parser.add_argument("--hold-out-every", type=int, default=50, help="one file in so many")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--eval-steps", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=int, help="only train, from the checkpoint to this step")
    args = parser.parse_args()
    if args.steps < 2:
        parser.error(f"--steps (={args.steps}) must be at least 2, to be stopped half-way")
    return args


def main():
    args = parse_args()
    if args.until is not None:
        train(args)
        return 0
    started = time.perf_counter()
    for left_over in ("checkpoint.npz", "steps.jsonl", "held-out.json"):
        (args.output / left_over).unlink(missing_ok=True)
    prepare(args)
    for until in (args.steps // 2, args.steps):
        subprocess.run([sys.executable, *sys.argv, "--until", str(until)], check=True)
    code = report(args)
    print(f"the demo took {time.perf_counter() - started:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
