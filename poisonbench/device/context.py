"""The CUDA context of the thread in which PyTorch differentiates."""

import functools

import torch


def prepare_gradients() -> None:
    """Makes the context current in that thread, once per GPU, where CUDA is in use.

    A kernel does. Where a matrix product comes first, PyTorch warns that there is no context.
    """
    if torch.cuda.is_initialized():
        _prepare(torch.cuda.current_device())


@functools.cache
def _prepare(index: int) -> None:
    with torch.inference_mode(False), torch.enable_grad():
        place = torch.device("cuda", index)
        one = torch.ones((), device=place, requires_grad=True)
        (one * one).backward()
