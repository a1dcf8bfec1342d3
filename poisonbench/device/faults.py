"""Errors of a device: too little memory, after which less is tried, and those that end its use.

After most errors of a GPU, such as a failed assertion in a kernel, every later call of the process
fails, too.
"""

from collections.abc import Iterator

import torch

# what the libraries say when an allocation fails, which they do as a plain RuntimeError
NO_MEMORY = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "HIP out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
# what they say when a kernel failed
BROKEN = (
    "CUDA error: ",
    "HIP error: ",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUSOLVER_STATUS_EXECUTION_FAILED",
    "CUSOLVER_STATUS_INTERNAL_ERROR",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory: half as much at once may fit."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _says(error, NO_MEMORY)


def is_broken(error: BaseException) -> bool:
    """Whether an accelerator failed, for another reason than its memory.

    Errors that it was raised from, or while handling which it was raised, count: a method may wrap
    them.
    """
    return any(_is_broken(cause) for cause in _causes(error))


def _is_broken(error: BaseException) -> bool:
    if is_out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and _says(error, BROKEN)


def is_of_device(error: BaseException) -> bool:
    """Whether it is a device's own error, which says nothing of the model that was computed."""
    return is_out_of_memory(error) or is_broken(error)


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    text = str(error)
    return any(phrase in text for phrase in phrases)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields the error, then what it came from, each once."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
