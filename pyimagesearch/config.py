"""What you edit: which recipe runs, where things lie, and one row per tutorial."""

from pathlib import Path

from pyimagesearch.recipe import Augmentation, Head, Phase, Recipe, Split, checked

RECIPE = "food5k"  # the row that a script uses when --recipe does not name another
DATASET_DIR = Path("dataset")  # organised images: dataset/<recipe>/<split>/<class>/
OUTPUT_DIR = Path("output")  # everything the scripts make: output/<recipe>/
TRAIN, VAL, TEST = "training", "validation", "evaluation"  # names of the splits
WEIGHTS = "imagenet"  # or the path of a .weights.h5 file for the backbone
# Of all that is drawn: the split of photos that come without one (change it, and build_dataset.py
# asks for a new start), the head's first weights, the augmentation, the order of photos.
SEED = 42
# float32, mixed_float16, mixed_bfloat16, or "auto": the fastest this machine does well
PRECISION = "auto"

# What the two ways of Deep Learning with Python share: the first 1,000 cats and dogs train, the
# next 500 validate, the next 500 evaluate.
CATS_AND_DOGS = {
    "source": "dogs-vs-cats",
    "download": "Kaggle: dogs-vs-cats, its train folder",
    "classes": ("cat", "dog"),
    "layout": "numbered",
    "split": Split(training=1000, validation=500, evaluation=500, shuffle=False),
    "preprocessing": "rescale",
    "image_size": 150,
    "batch_size": 20,
    "smoothing": 0.8,
}

RECIPES = checked(
    {
        # Food-5K: food or not, 5,000 photos. PyImageSearch, "Transfer Learning with Keras and
        # Deep Learning", 2019-05-20: VGG16 features, logistic regression, accuracy 0.98.
        # Food-5K itself could not be fetched here. On one made of ten of Food-101's dishes and of
        # Kaggle's cats and dogs (1,500 / 500 / 500 photos), on a 2-core AMD EPYC: 1.00 in 2
        # minutes, and 1.00 with a plain port of the original scripts.
        "food5k": Recipe(
            source="Food-5K",
            classes=("non_food", "food"),
            download="Kaggle: trolukovich/food5k-image-dataset, or binhminhs10/food5k",
            official_counts={TRAIN: 3000, VAL: 1000, TEST: 1000},
            method="logistic_regression",
        ),
        # Food-11: 16,643 photos of 11 kinds of food. PyImageSearch, "Fine-tuning with Keras and
        # Deep Learning", 2019-06-03: 0.78 after the warm-up, 0.87 after the last block learned.
        # Food-11 itself could not be fetched here. On 3,000 photos of ten of Food-101's dishes:
        # 0.762, then 0.832 of 600 evaluation photos, in 20 minutes on a 2-core AMD EPYC (Zen 5),
        # in 45 on an older one (Zen 4). On 1,000 of them with 25 + 10 epochs: 0.635, mean of nine
        # seeds, then 0.719, mean of three. A plain port of the original scripts on these, 12 + 6
        # epochs, one seed: 0.540, then 0.652.
        "food11": Recipe(
            source="Food-11",
            classes=(
                *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat"),
                *("Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"),
            ),
            download="Kaggle: trolukovich/food11-image-dataset, or vermaavi/food11",
            official_counts={TRAIN: 9866, VAL: 3430, TEST: 3347},
            head=Head(units=512, dropout=0.5),
            augmentation=Augmentation(
                rotation_degrees=30,
                width_shift=0.2,
                height_shift=0.2,
                shear_degrees=0.15,
                zoom=0.15,
                horizontal_flip=True,
            ),
            phases=(
                Phase("warmup", epochs=50, learning_rate=1e-4, momentum=0.9),
                Phase(
                    "unfrozen",
                    unfreeze_after="block4_pool",
                    epochs=20,
                    learning_rate=1e-4,
                    momentum=0.9,
                ),
            ),
        ),
        # Knifey-Spoony: forks, knives and spoons. Hvass-Labs TensorFlow-Tutorials 10: 0.67 after
        # the first phase, 0.79 after blocks 4 and 5 learned. Its test photos also validate. The
        # photos could not be fetched here: the row is tested on made ones.
        "knifey_spoony": Recipe(
            source="knifey-spoony",
            download="github.com/Hvass-Labs/knifey-spoony",
            classes=("forky", "knifey", "spoony"),
            layout="test_inside",
            validate_on_evaluation=True,
            official_counts={TRAIN: 4170, VAL: 530, TEST: 530},
            preprocessing="rescale",
            batch_size=20,
            head=Head(units=1024, dropout=0.5),
            augmentation=Augmentation(
                rotation_degrees=180,
                width_shift=0.1,
                height_shift=0.1,
                shear_degrees=0.1,
                zoom=(0.9, 1.5),
                horizontal_flip=True,
                vertical_flip=True,
            ),
            class_weights="balanced",
            phases=(
                Phase(
                    "transfer",
                    epochs=20,
                    steps_per_epoch=100,
                    optimizer="Adam",
                    learning_rate=1e-5,
                ),
                Phase(
                    "fine_tuning",
                    unfreeze_after="block3_pool",
                    epochs=20,
                    steps_per_epoch=100,
                    optimizer="Adam",
                    learning_rate=1e-7,
                ),
            ),
        ),
        # Cats vs dogs, way 1: the frozen body sees each photo once, not augmented, and a head
        # learns from what it said. Chollet, Deep Learning with Python, 5.3: 0.90 on validation.
        # Here with half the photos (500 / 150 / 150 of each), on a 2-core AMD EPYC: 0.860 on
        # validation, 0.883 on evaluation, in 0.8 minutes.
        "cats_vs_dogs_features": Recipe(
            **CATS_AND_DOGS,
            head=Head(units=256, dropout=0.5, output="sigmoid"),
            phases=(
                Phase("head", epochs=30, augment=False, optimizer="RMSprop", learning_rate=2e-5),
            ),
        ),
        # Cats vs dogs, way 2: the whole network on augmented photos, then everything after
        # block4_pool learns. The same book: 0.96 on validation, then 0.968 on test.
        # Here with the same half and 30 + 15 epochs: 0.870 and then 0.910 on validation, 0.870 and
        # then 0.903 on evaluation, in less than 8 minutes.
        "cats_vs_dogs": Recipe(
            **CATS_AND_DOGS,
            head=Head(units=256, dropout=0, output="sigmoid"),
            augmentation=Augmentation(
                rotation_degrees=40,
                width_shift=0.2,
                height_shift=0.2,
                shear_degrees=0.2,
                zoom=0.2,
                horizontal_flip=True,
            ),
            phases=(
                Phase(
                    "frozen",
                    epochs=30,
                    steps_per_epoch=100,
                    optimizer="RMSprop",
                    learning_rate=2e-5,
                ),
                Phase(
                    "unfrozen",
                    unfreeze_after="block4_pool",
                    epochs=100,
                    steps_per_epoch=100,
                    optimizer="RMSprop",
                    learning_rate=1e-5,
                ),
            ),
        ),
        # Simpsons: Bart or Homer, on ResNet50. A Kaggle kernel by stevengolo, 2020-05-10: 0.883
        # with the head alone, 0.867 after the last residual blocks learned. Neither the photos nor
        # ResNet50's weights could be fetched here: the row is tested on made ones.
        "simpsons": Recipe(
            source="simpsons",
            download="Kaggle: alexattia/the-simpsons-characters-dataset, its simpsons_dataset",
            classes=("bart_simpson", "homer_simpson"),
            layout="unsplit",
            split=Split(training=None, validation=0, evaluation=500),
            validate_on_evaluation=True,
            official_counts={TRAIN: 2588, VAL: 1000, TEST: 1000},
            backbone="ResNet50",
            batch_size=50,
            head=Head(pooling="average", units=None, dropout=0, output="sigmoid"),
            augmentation=Augmentation(
                rotation_degrees=20,
                width_shift=0.2,
                height_shift=0.2,
                shear_degrees=0.2,
                zoom=0.2,
                horizontal_flip=True,
            ),
            mistakes=10,
            phases=(
                Phase(
                    "head",
                    epochs=15,
                    augment=False,
                    optimizer="Adam",
                    learning_rate=1e-4,
                    held_out=0.1,
                ),
                # The first block that the kernel's layer 151 opens whole is conv5_block2.
                Phase(
                    "unfrozen",
                    unfreeze_after="conv5_block1_out",
                    epochs=30,
                    learning_rate=1e-4,
                    momentum=0.9,
                ),
            ),
        ),
        # The demo: 417 photos of foods in six groups, fetched by tools/get_sample.py, and Food-11's
        # phases. On a 2-core AMD EPYC: 0.714, then 0.738 on 84 evaluation photos, where logistic
        # regression gets 0.738; on 83 validation photos 0.747 and 0.723, where it gets 0.699.
        "sample": Recipe(
            source="downloads/sample",
            download="python tools/get_sample.py",
            classes=(
                *("Cereals and pulses", "Fish and shellfish", "Fruit"),
                *("Leafy vegetables", "Nuts and spices", "Vegetables and roots"),
            ),
        ),
        # scikit-learn's 1,797 handwritten digits, 8 x 8 pixels each, enlarged. No download:
        # tools/get_sample.py writes them where npm is missing, and the tests use them.
        # On a 2-core AMD EPYC, 359 evaluation digits: 0.944 after the warm-up, then 0.950, in 1.1
        # minutes; logistic regression 0.964. The last epochs jump, so the best of them is kept.
        "digits": Recipe(
            source="downloads/digits",
            download="python tools/get_sample.py --digits",
            classes=tuple("0123456789"),
            image_size=64,
            # A mirrored or turned digit is no digit.
            augmentation=Augmentation(
                rotation_degrees=10, width_shift=0.1, height_shift=0.1, zoom=0.1
            ),
            phases=(
                Phase("warmup", epochs=10, learning_rate=1e-3),
                Phase(
                    "unfrozen",
                    unfreeze_after="block4_pool",
                    epochs=5,
                    learning_rate=1e-4,
                    keep_best=True,
                ),
            ),
        ),
    }
)
