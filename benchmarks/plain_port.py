"""The tutorials' original scripts, made to run on today's API and no better.

    python benchmarks/plain_port.py extract   DATASET WEIGHTS OUT
    python benchmarks/plain_port.py fine_tune DATASET WEIGHTS OUT [--warmup 50] [--unfrozen 20]
    python benchmarks/plain_port.py steps     DATASET WEIGHTS OUT

DATASET holds <split>/<class>/ folders as build_dataset.py makes them; `steps` times single steps
of `fine_tune`. This is what the project is measured against, so it keeps what made the originals
slow: a photo decoded at a time, a predict call a batch, CSV joined in Python, ImageDataGenerator,
float32, every layer computed again in every epoch. Only what made them wrong is mended, so that
the accuracies compare: preprocessing is VGG16's own in training and prediction, and evaluation
sees every photo once. What learns from the CSV is plain_regression.py.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from clock import Clock
from imutils import paths
from keras.applications import VGG16
from keras.applications.vgg16 import preprocess_input
from keras.layers import Dense, Dropout, Flatten, Input
from keras.models import Model
from keras.optimizers import SGD
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from keras.utils import img_to_array, load_img, set_random_seed
from sklearn.metrics import classification_report
from sklearn.preprocessing import LabelEncoder

BATCH_SIZE = 32
SPLITS = ("training", "validation", "evaluation")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tutorial", choices=("extract", "fine_tune", "steps"))
    parser.add_argument("dataset", type=Path)
    parser.add_argument("weights", help="imagenet, or a .weights.h5 file")
    parser.add_argument("out", type=Path)
    parser.add_argument("--warmup", type=int, default=50, help="epochs of phase 1")
    parser.add_argument("--unfrozen", type=int, default=20, help="epochs of phase 2")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    set_random_seed(arguments.seed)
    random.seed(arguments.seed)
    start = time.perf_counter()
    dataset, weights = arguments.dataset, arguments.weights
    if arguments.tutorial == "extract":
        extract(dataset, weights, arguments.out)
        result = {}
    elif arguments.tutorial == "fine_tune":
        result = fine_tune(dataset, weights, (arguments.warmup, arguments.unfrozen), run_phase)
    else:
        result = fine_tune(dataset, weights, (1, 1), time_phase)
    result["seconds"] = time.perf_counter() - start
    (arguments.out / f"plain_{arguments.tutorial}.json").write_text(json.dumps(result, indent=2))


def extract(dataset, weights, out):
    """Write one CSV a split: the label's number, then 25,088 features."""
    model = VGG16(weights=weights, include_top=False, input_shape=(224, 224, 3))
    encoder = None
    for split in SPLITS:
        image_paths = list(paths.list_images(str(dataset / split)))
        random.shuffle(image_paths)
        labels = [path.split(os.path.sep)[-2] for path in image_paths]
        if encoder is None:
            encoder = LabelEncoder()
            encoder.fit(labels)
        with open(out / f"{split}.csv", "w") as csv:
            for start in range(0, len(image_paths), BATCH_SIZE):
                batch_paths = image_paths[start : start + BATCH_SIZE]
                batch_labels = encoder.transform(labels[start : start + BATCH_SIZE])
                batch = []
                for path in batch_paths:
                    image = img_to_array(load_img(path, target_size=(224, 224)))
                    batch.append(preprocess_input(np.expand_dims(image, axis=0)))
                features = model.predict(np.vstack(batch), batch_size=BATCH_SIZE, verbose=0)
                features = features.reshape((features.shape[0], 7 * 7 * 512))
                for label, row in zip(batch_labels, features, strict=True):
                    csv.write(f"{label},{','.join([str(v) for v in row])}\n")


def fine_tune(dataset, weights, epochs, run_phase):
    """Tutorial 2: warm up a new head, then unfreeze the last block."""
    augmented = ImageDataGenerator(
        rotation_range=30,
        zoom_range=0.15,
        width_shift_range=0.2,
        height_shift_range=0.2,
        shear_range=0.15,
        horizontal_flip=True,
        fill_mode="nearest",
        preprocessing_function=preprocess_input,
    )
    plain = ImageDataGenerator(preprocessing_function=preprocess_input)
    train, validation, test = (
        generator.flow_from_directory(
            str(dataset / split),
            class_mode="categorical",
            target_size=(224, 224),
            shuffle=split == "training",
            batch_size=BATCH_SIZE,
        )
        for generator, split in zip((augmented, plain, plain), SPLITS, strict=True)
    )
    body = VGG16(weights=weights, include_top=False, input_tensor=Input(shape=(224, 224, 3)))
    head = Flatten(name="flatten")(body.output)
    head = Dense(512, activation="relu")(head)
    head = Dropout(0.5)(head)
    head = Dense(train.num_classes, activation="softmax")(head)
    model = Model(inputs=body.input, outputs=head)
    for layer in body.layers:
        layer.trainable = False
    result = {"warmup": run_phase(model, train, validation, test, epochs[0])}
    # Food-11's post counts layers; from the sixteenth on they are block5's.
    for layer in body.layers[15:]:
        layer.trainable = True
    result["unfrozen"] = run_phase(model, train, validation, test, epochs[1])
    return result


def run_phase(model, train, validation, test, epochs):
    """Compile, fit and report one phase; return what it scored and how long it took."""
    compile_phase(model)
    start = time.perf_counter()
    history = model.fit(train, validation_data=validation, epochs=epochs, verbose=2)
    seconds = time.perf_counter() - start
    predictions = np.argmax(model.predict(test, verbose=0), axis=1)
    print(classification_report(test.classes, predictions, target_names=list(test.class_indices)))
    return {
        "accuracy": float(np.mean(predictions == test.classes)),
        "validation_accuracy": history.history["val_accuracy"][-1],
        "fit_seconds": seconds,
        "epochs": epochs,
    }


def compile_phase(model):
    """Compile as both phases of the post do."""
    model.compile(
        loss="categorical_crossentropy",
        optimizer=SGD(learning_rate=1e-4, momentum=0.9),
        metrics=["accuracy"],
        jit_compile=False,
    )


def time_phase(model, train, validation, test, epochs):
    """Return the median seconds of a training step and of a validation step of one phase."""
    compile_phase(model)
    clock = Clock()
    model.fit(train, epochs=epochs, verbose=0, callbacks=[clock])
    for _ in range(3):
        model.evaluate(validation, verbose=0, callbacks=[clock])
    return {"step": clock.median("train"), "validation_step": clock.median("test")}


if __name__ == "__main__":
    main()
