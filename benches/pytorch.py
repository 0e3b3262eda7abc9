#!/usr/bin/env python3
"""The models of `starling bench` in PyTorch: the same shapes, batches and names, to be compared on one machine.

    starling bench gpt_train_step gpt_infer_1 --json >starling.json
    python3 benches/pytorch.py --threads 1 --against starling.json gpt_train_step gpt_infer_1

Needs `torch`. Times are milliseconds; the ratio is PyTorch's median over Starling's, so above 1 Starling is quicker.
Training is AdamW with the same settings; data are random bytes, since only the time is looked at.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        )

    def forward(self, x):
        return self.layers(x)


class Conv(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * channels * 16, hidden), nn.ReLU(), nn.Linear(hidden, 10),
        )

    def forward(self, x):
        return self.layers(x)


class ByteMlp(nn.Module):
    def __init__(self, context, embedding, hidden):
        super().__init__()
        self.embedding = nn.Embedding(256, embedding)
        self.layers = nn.Sequential(
            nn.Linear(context * embedding, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 256),
        )
        self.bigram = nn.Parameter(torch.zeros(256, 256))

    def forward(self, x):
        return self.layers(self.embedding(x).flatten(1)) + self.bigram[x[:, -1]]


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        rows, count, width = x.shape
        parts = self.look(self.norm1(x)).view(rows, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(rows, count, width))
        return x + self.down(F.relu(self.up(self.norm2(x))))


class ByteGpt(nn.Module):
    def __init__(self, context, width, layers, heads):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.position = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, 256)
        self.bigram = nn.Parameter(torch.zeros(256, 256))

    def forward(self, x, last=False):
        y = self.embedding(x) + self.position
        for block in self.blocks:
            y = block(y)
        y = self.norm(y)
        if last:
            y, x = y[:, -1:], x[:, -1:]
        return self.output(y) + self.bigram[x]


def pixels(rows):
    return torch.rand(rows, 64), torch.randint(10, (rows,))


def contexts(length):
    return lambda rows: (torch.randint(256, (rows, length)), torch.randint(256, (rows,)))


def windows(length):
    return lambda rows: (torch.randint(256, (rows, length)), torch.randint(256, (rows, length)))


MODELS = {
    "mlp": (lambda: Mlp(64), pixels, 64),
    "conv": (lambda: Conv(16, 64), pixels, 64),
    "byte_mlp": (lambda: ByteMlp(8, 32, 128), contexts(8), 256),
    "gpt": (lambda: ByteGpt(128, 128, 4, 4), windows(128), 16),
}
NAMES = ["mlp_train_step", "mlp_infer_32", "mlp_infer_1", "conv_train_step", "conv_infer_1", "byte_mlp_train_step",
         "byte_mlp_infer_32", "byte_mlp_infer_1", "gpt_train_step", "gpt_infer_1"]


def timed(work, seconds=2.0, warm=2, least=8, most=400):
    for _ in range(warm):
        work()
    begin, times = time.perf_counter(), []
    while len(times) < most and (len(times) < least or time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def measure(name):
    model_name, what = name.rsplit("_train_step", 1) if name.endswith("_train_step") else name.split("_infer_")
    make, draw, batch = MODELS[model_name]
    torch.manual_seed(1)
    model = make()
    if not what:
        optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99), weight_decay=0.01)

        def step():
            shown, truth = draw(batch)
            optimiser.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(shown).flatten(0, -2), truth.flatten())
            loss.backward()
            optimiser.step()
            return loss.item()

        return timed(step)
    shown, _ = draw(int(what))
    model.eval()

    def answer():
        with torch.inference_mode():
            logits = model(shown, last=True) if isinstance(model, ByteGpt) else model(shown)
            return torch.softmax(logits.flatten(0, -2), -1).tolist()

    return timed(answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch [default: 1]")
    parser.add_argument("--against", help="the JSON of `starling bench ... --json`")
    parser.add_argument("names", nargs="*", default=NAMES)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    ours = {}
    if wanted.against:
        with open(wanted.against) as file:
            ours = {figure["name"]: figure["median"] for figure in json.load(file)["data"]["results"]}
    results = []
    for name in wanted.names:
        if name not in NAMES:
            parser.error(f"{name} has no counterpart here; known are {', '.join(NAMES)}")
        times = measure(name)
        median = statistics.median(times)
        row = {"name": name, "unit": "ms", "median": median, "min": min(times), "max": max(times), "runs": len(times)}
        if name in ours:
            row["starling"] = ours[name]
            row["ratio"] = median / ours[name]
        results.append(row)
    print(json.dumps({"torch": torch.__version__, "threads": wanted.threads, "results": results}, indent=1))


if __name__ == "__main__":
    main()
