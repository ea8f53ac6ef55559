"""The fine-tuning of Food-11 in PyTorch, as a user would write it today: race.py compares with it.

    python benchmarks/torch_port.py forward DATASET WEIGHTS OUT [--precision bfloat16]
    python benchmarks/torch_port.py steps   DATASET WEIGHTS OUT [--precision bfloat16]

It runs in an environment of its own (torch_environment.py). `forward` measures the frozen network
alone and `steps` single training and validation steps of each phase, like plain_port.py. Before
that, both compare the network with this project's: `ours.py reference` has written photos and
their features to OUT.

This is the fast way to do what the tutorial does: the memory is ordered by channels last, worker
processes of the DataLoader read and augment photos while the network computes, and the frozen
layers compute no gradients. Augmentation is fresh in every epoch, so every epoch computes every
layer. It differs in one thing: torchvision fills gaps with black, not with the nearest edge.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

if not torch.cuda.is_available():
    # PyPI's torchvision is made for CUDA. Without it, its compiled operators are missing, and it
    # cannot be imported unless these two are declared. Neither is used here.
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)

from torchvision.datasets import ImageFolder
from torchvision.models import vgg16
from torchvision.transforms import v2

BATCH_SIZE = 32
MEAN_RGB = (123.68, 116.779, 103.939)  # of ImageNet, as Keras subtracts it
CUTS = {"warmup": 31, "unfrozen": 24}  # how many layers are frozen: all, or up to block4's pooling
REPETITIONS = 8  # of a timed forward pass
EPOCHS = 2  # of timed training steps
LARGEST_DIFFERENCE = 1e-4  # of features, relative: float32 sums in another order
WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("forward", "steps"))
    parser.add_argument("dataset", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    torch.manual_seed(42)
    backbone = load_backbone(arguments.weights)
    photos = compare(backbone, arguments.out)
    with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bfloat16"):
        if arguments.task == "forward":
            result = {"photos_a_second": 1 / seconds_per_photo(backbone, photos)}
        else:
            result = time_phases(backbone, arguments.dataset)
    result |= {"precision": arguments.precision, "torch": torch.__version__}
    (arguments.out / f"torch_{arguments.task}.json").write_text(json.dumps(result, indent=2))


def load_backbone(path):
    """Return VGG16's convolutional layers with the weights of a Keras file, for RGB photos."""
    layers = vgg16(weights=None).features
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    with h5py.File(path) as file, torch.no_grad():
        for number, layer in enumerate(convolutions):
            variables = file[f"layers/conv2d{f'_{number}' if number else ''}/vars"]
            # Keras: height, width, in, out. PyTorch: out, in, height, width.
            kernel = torch.from_numpy(variables["0"][()]).permute(3, 2, 0, 1)
            # Keras' weights are for BGR.
            layer.weight.copy_(kernel.flip(1) if number == 0 else kernel)
            layer.bias.copy_(torch.from_numpy(variables["1"][()]))
    return layers.to(memory_format=torch.channels_last)


def preprocess(photos):
    """Return a uint8 (n, 3, height, width) batch as the network takes it."""
    mean = torch.tensor(MEAN_RGB).reshape(1, 3, 1, 1)
    return (photos.float() - mean).contiguous(memory_format=torch.channels_last)


def compare(backbone, out):
    """Return the reference photos, or end the program if their features are not the same."""
    photos = torch.from_numpy(np.load(out / "photos.npy")).permute(0, 3, 1, 2)
    expected = np.load(out / "features.npy")
    with torch.no_grad():
        # Keras flattens the channels last.
        features = backbone(preprocess(photos)).permute(0, 2, 3, 1).flatten(1).numpy()
    difference = np.linalg.norm(features - expected) / np.linalg.norm(expected)
    print(f"relative difference of the features of {len(photos)} photos: {difference:.1e}")
    if difference > LARGEST_DIFFERENCE:
        sys.exit("PyTorch's network does not compute the same features")
    return photos


def seconds_per_photo(backbone, photos):
    """Return the median seconds that a photo of a batch in memory takes through the network."""
    seconds = []
    with torch.no_grad():
        backbone(preprocess(photos))
        for _ in range(REPETITIONS):
            start = time.perf_counter()
            backbone(preprocess(photos))
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) / len(photos)


def time_phases(backbone, dataset):
    """Return the median seconds of a training step and of a validation step of each phase."""
    training, validation = (
        open_split(dataset / "training", True),
        open_split(dataset / "validation", False),
    )
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(25088, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, len(training.dataset.classes)),
    )
    result = {}
    for phase, cut in CUTS.items():
        frozen, trained = backbone[:cut], nn.Sequential(*backbone[cut:], head)
        frozen.requires_grad_(False)
        optimizer = torch.optim.SGD(trained.parameters(), lr=1e-4, momentum=0.9)
        steps, validation_steps = [], []
        for _ in range(EPOCHS):
            steps += train(frozen, trained, training, optimizer)
        for _ in range(3):
            validation_steps += validate(frozen, trained, validation)
        result[phase] = {
            "step": float(np.median(steps)),
            "validation_step": float(np.median(validation_steps)),
        }
    return result


def open_split(folder, is_augmented):
    """Return a DataLoader of a split. Only training photos are augmented and shuffled."""
    augmentation = [
        v2.RandomAffine(
            degrees=30,
            translate=(0.2, 0.2),
            scale=(0.85, 1.15),
            shear=0.15,
            interpolation=v2.InterpolationMode.BILINEAR,
        ),
        v2.RandomHorizontalFlip(),
    ]
    steps = [v2.Resize((224, 224)), *(augmentation if is_augmented else ()), v2.PILToTensor()]
    return torch.utils.data.DataLoader(
        ImageFolder(folder, v2.Compose(steps)),
        batch_size=BATCH_SIZE,
        shuffle=is_augmented,
        num_workers=WORKERS,
        persistent_workers=True,
    )


def train(frozen, trained, loader, optimizer):
    """Train for one epoch. Return the seconds of each step, as `between` does."""
    trained.train()
    ends = []
    for photos, labels in loader:
        with torch.no_grad():
            inputs = frozen(preprocess(photos))
        loss = nn.functional.cross_entropy(trained(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(time.perf_counter())
    return between(ends)


def validate(frozen, trained, loader):
    """Predict every photo. Return the seconds of each step, as `between` does."""
    trained.eval()
    ends, correct = [], 0
    with torch.no_grad():
        for photos, labels in loader:
            logits = trained(frozen(preprocess(photos)))
            correct += (logits.argmax(1) == labels).sum().item()
            ends.append(time.perf_counter())
    return between(ends)


def between(ends):
    """Return the seconds between the ends of steps, without the last step: its batch is smaller."""
    return np.diff(ends)[:-1].tolist()


if __name__ == "__main__":
    main()
