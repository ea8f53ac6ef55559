"""What this machine is: what decides how a network computes on it."""

from pathlib import Path


def has_gpu():
    """Tell whether TensorFlow computes on a GPU here."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def processor_flags():
    """Return the instruction sets that Linux lists; an empty set on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


def computes_in_bfloat16():
    """Tell whether the processor has instructions for bfloat16; without, it is slow with them."""
    return bool(processor_flags() & {"amx_bf16", "avx512_bf16"})


def has_avx2():
    """Tell whether the processor has AVX2, as most of the last ten years have."""
    return "avx2" in processor_flags()
