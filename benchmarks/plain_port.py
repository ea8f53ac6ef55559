"""A plain port of the original tutorials to Keras 3: what this project is compared with.

    python benchmarks/plain_port.py extract   DATASET WEIGHTS OUT
    python benchmarks/plain_port.py fine_tune DATASET WEIGHTS OUT [--warmup 50] [--unfrozen 20]
    python benchmarks/plain_port.py steps     DATASET WEIGHTS OUT

DATASET contains <split>/<class>/ folders, as build_dataset.py writes them. `steps` measures single
training and validation steps of `fine_tune`.

The port keeps what makes the originals slow: it decodes one photo at a time, calls predict once
per batch, joins the CSV in Python, augments with ImageDataGenerator, computes in float32, and
computes every layer again in every epoch. It corrects only what makes their results wrong, so that
the accuracies can be compared: training and prediction both use VGG16's own preprocessing, and the
evaluation counts every photo once. plain_regression.py trains on the CSV.
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    """Write one CSV per split. A row is the index of the class, then 25,088 features."""
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
    """Train a new head, then the last block of VGG16 too. Return {phase: result of run_phase}.

    Source: PyImageSearch, "Fine-tuning with Keras and Deep Learning", 2019-06-03.

    Args:
        dataset: the folder of the splits.
        weights: "imagenet", a .weights.h5 file, or None for random weights.
        epochs: of the two phases.
        run_phase: run_phase or time_phase.
    """
    train, validation, test = open_splits(dataset)
    body, model = build(weights, train.num_classes)
    for layer in body.layers:
        layer.trainable = False
    result = {"warmup": run_phase(model, train, validation, test, epochs[0])}
    # The post selects layers by index. From index 15 on they are block5's.
    for layer in body.layers[15:]:
        layer.trainable = True
    result["unfrozen"] = run_phase(model, train, validation, test, epochs[1])
    return result


def open_splits(dataset):
    """Return iterators over the batches of each split. Only training photos are augmented."""
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
    return [
        generator.flow_from_directory(
            str(dataset / split),
            class_mode="categorical",
            target_size=(224, 224),
            shuffle=split == "training",
            batch_size=BATCH_SIZE,
        )
        for generator, split in zip((augmented, plain, plain), SPLITS, strict=True)
    ]


def build(weights, class_count):
    """Return (VGG16 without its top, the same with a new head)."""
    body = VGG16(weights=weights, include_top=False, input_tensor=Input(shape=(224, 224, 3)))
    head = Flatten(name="flatten")(body.output)
    head = Dense(512, activation="relu")(head)
    head = Dropout(0.5)(head)
    head = Dense(class_count, activation="softmax")(head)
    return body, Model(inputs=body.input, outputs=head)


def run_phase(model, train, validation, test, epochs):
    """Train and evaluate one phase. Return its accuracies and the seconds that fit takes."""
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
    """Compile the model with the settings that both phases of the post use."""
    model.compile(
        loss="categorical_crossentropy",
        optimizer=SGD(learning_rate=1e-4, momentum=0.9),
        metrics=["accuracy"],
        jit_compile=False,
    )


def time_phase(model, train, validation, test, epochs):
    """Return the median seconds of a training step and of a validation step of one phase.

    Its arguments are those of run_phase; `test` is not used.
    """
    compile_phase(model)
    clock = Clock()
    model.fit(train, epochs=epochs, verbose=0, callbacks=[clock])
    for _ in range(3):
        model.evaluate(validation, verbose=0, callbacks=[clock])
    return {"step": clock.median("train"), "validation_step": clock.median("test")}


if __name__ == "__main__":
    main()
