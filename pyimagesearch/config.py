"""What you edit: which recipe runs, where things lie, and one row per tutorial."""

from pathlib import Path

from pyimagesearch.recipe import Augmentation, Head, Phase, Recipe, checked

RECIPE = "food5k"  # the row that a script uses when --recipe does not name another
DATASET_DIR = Path("dataset")  # organised images: dataset/<recipe>/<split>/<class>/
OUTPUT_DIR = Path("output")  # everything the scripts make: output/<recipe>/
TRAIN, VAL, TEST = "training", "validation", "evaluation"  # names of the splits
WEIGHTS = "imagenet"  # or the path of a .weights.h5 file for the backbone
SEED = 42  # of the head's first weights, the augmentation and the order of photos
# float32, mixed_float16, mixed_bfloat16, or "auto": the fastest this machine does well
PRECISION = "auto"

RECIPES = checked(
    {
        # Food-5K: food or not, 5,000 photos. PyImageSearch, "Transfer Learning with Keras and
        # Deep Learning", 2019-05-20: VGG16 features, logistic regression, accuracy 0.98.
        "food5k": Recipe(
            source="Food-5K",
            classes=("non_food", "food"),
            download="Kaggle: trolukovich/food5k-image-dataset, or binhminhs10/food5k",
            official_counts={"training": 3000, "validation": 1000, "evaluation": 1000},
            method="logistic_regression",
        ),
        # Food-11: 16,643 photos of 11 kinds of food. PyImageSearch, "Fine-tuning with Keras and
        # Deep Learning", 2019-06-03: 0.78 after the warm-up, 0.87 after the last block learned.
        "food11": Recipe(
            source="Food-11",
            classes=(
                *("Bread", "Dairy product", "Dessert", "Egg", "Fried food", "Meat"),
                *("Noodles/Pasta", "Rice", "Seafood", "Soup", "Vegetable/Fruit"),
            ),
            download="Kaggle: trolukovich/food11-image-dataset, or vermaavi/food11",
            official_counts={"training": 9866, "validation": 3430, "evaluation": 3347},
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
        # The demo: 417 photos of foods in six groups, fetched by tools/get_sample.py.
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
                Phase("unfrozen", unfreeze_after="block4_pool", epochs=5, learning_rate=1e-4),
            ),
        ),
    }
)
