#!/usr/bin/env python3
"""PyTorch and ONNX Runtime on the processor, on the network that `sfmedir bench model` measures. Prints one JSON object.

Both in single precision, as they come; PyTorch in the channels-last format, which is its faster one here."""
import argparse
import contextlib
import io
import json
import logging
import os
import pathlib
import statistics
import tempfile
import time
import warnings

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--net", choices=["atto40", "small32"], default="atto40")
parser.add_argument("--size", type=int, default=128)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--seconds", type=float, default=3.0)
options = parser.parse_args()
# Before the libraries look at it.
os.environ["OMP_NUM_THREADS"] = str(options.threads)
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

WIDTHS = {"atto40": (40, 80, 160, 320), "small32": (32, 64, 128, 256)}
DEPTHS = (2, 2, 6, 2)
BITS = 16


class ChannelNorm(torch.nn.LayerNorm):
    """Over the channels of a picture."""

    def forward(self, images):
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.spatial = torch.nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = torch.nn.LayerNorm(width, eps=1e-6)
        self.expand = torch.nn.Linear(width, 4 * width)
        self.project = torch.nn.Linear(4 * width, width)
        self.scale = torch.nn.Parameter(torch.full((width,), 0.5))

    def forward(self, images):
        rows = self.norm(self.spatial(images).permute(0, 2, 3, 1))
        rows = self.project(torch.nn.functional.gelu(self.expand(rows))) * self.scale
        return images + rows.permute(0, 3, 1, 2)


class ConvNeXt(torch.nn.Module):
    def __init__(self, widths):
        super().__init__()
        layers = [torch.nn.Conv2d(1, widths[0], 4, stride=4), ChannelNorm(widths[0], eps=1e-6)]
        for stage, (width, depth) in enumerate(zip(widths, DEPTHS)):
            if stage:
                layers += [ChannelNorm(widths[stage - 1], eps=1e-6),
                           torch.nn.Conv2d(widths[stage - 1], width, 2, stride=2)]
            layers += [Block(width) for _ in range(depth)]
        self.trunk = torch.nn.Sequential(*layers)
        self.norm = torch.nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = torch.nn.Linear(widths[-1], BITS)

    def forward(self, images):
        return self.head(self.norm(self.trunk((images - 0.5) / 0.25).mean((2, 3))))


def seconds_of(work, least):
    """The median of a call, after one that warms up."""
    work()
    times = []
    end = time.perf_counter() + options.seconds
    while len(times) < least or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def with_torch(network, images):
    figures = {}
    network.eval()
    with torch.inference_mode():
        figures["torch_latency_1_ms"] = 1e3 * seconds_of(lambda: network(images[:1]), 50)
        figures["torch_infer_images_per_s"] = options.batch / seconds_of(lambda: network(images), 3)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.05)
    codes = torch.sign(torch.randn(options.batch, BITS))

    def step():
        optimizer.zero_grad(set_to_none=True)
        values = torch.tanh(network(images))
        quantization = ((values - torch.sign(values.detach())) ** 2).mean()
        balance = (values.mean(0) ** 2).mean()
        loss = ((values @ codes.t() / BITS) ** 2).mean() + 1e-4 * quantization + 0.1 * balance
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    figures["torch_train_images_per_s"] = options.batch / seconds_of(step, 4)
    return figures


def with_onnx_runtime(network, images):
    network.eval()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    settings.log_severity_level = 3
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, options.batch):
            path = pathlib.Path(folder) / f"{count}.onnx"
            batch = images[:count].contiguous()
            with contextlib.redirect_stdout(io.StringIO()):
                torch.onnx.export(network, (batch,), path, dynamo=True, external_data=False)
            session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
            feed = {session.get_inputs()[0].name: batch.numpy()}
            with torch.inference_mode():
                difference = numpy.abs(session.run(None, feed)[0] - network(batch).numpy()).max()
            # Otherwise it would not be the same network.
            assert difference < 1e-3, difference
            seconds = seconds_of(lambda s=session, f=feed: s.run(None, f), 50 if count == 1 else 3)
            if count == 1:
                figures["ort_latency_1_ms"] = 1e3 * seconds
            else:
                figures["ort_infer_images_per_s"] = count / seconds
    return figures


def main():
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = ConvNeXt(WIDTHS[options.net]).to(memory_format=torch.channels_last)
    images = torch.rand(options.batch, 1, options.size, options.size).to(memory_format=torch.channels_last)
    # Before training changes it.
    runtime = with_onnx_runtime(network, images)
    print(json.dumps({**with_torch(network, images), **runtime, "torch": torch.__version__,
                      "onnxruntime": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
