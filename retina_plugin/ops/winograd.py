"""Winograd's algorithm for 3 x 3 convolutions: F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks" (2016). A quarter of the multiplications, by other roundings than the plain sum.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["transform_kernel", "winograd_conv2d"]

# Of the paper's Sec. 4.3: a tile of 6 x 6 inputs gives 4 x 4 outputs.
_INPUT, _OUTPUT = 6, 4
_B = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_G = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
_A = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
)
# Rows and columns in one product: kron(B, B) is what B d B^T is to the tile as a vector.
_TILES_IN, _TILES_OUT = torch.kron(_B, _B).float(), torch.kron(_A, _A).float()


def transform_kernel(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) fp32 -> (36, C, O): G w G^T, in fp64 until the end."""
    transformed = torch.einsum("ia,ocab,jb->ijco", _G, weight.double(), _G)
    return transformed.float().reshape(_INPUT**2, weight.shape[1], weight.shape[0]).contiguous()


def winograd_conv2d(image: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """3 x 3 convolution of stride 1 and padding 1 on the CPU.

    Args:
        image: (N, C, H, W) fp32, quickest channels-last.
        kernel: (36, C, O) of :func:`transform_kernel`.
        bias: (O,).

    Returns:
        (N, O, H, W), channels-last; equal to ``F.conv2d`` up to a few 1e-5 of the size of its values.
    """
    n, channels, height, width = image.shape
    rows, columns = -(-height // _OUTPUT), -(-width // _OUTPUT)
    padding = (1, _OUTPUT * columns + 1 - width, 1, _OUTPUT * rows + 1 - height)
    padded = F.pad(image, padding).permute(0, 2, 3, 1).contiguous()
    of_image, of_row, of_column, _ = padded.stride()
    # Overlapping tiles: a view until the reshape copies it.
    tiles = padded.as_strided(
        (_INPUT, _INPUT, n, rows, columns, channels),
        (of_row, of_column, of_image, _OUTPUT * of_row, _OUTPUT * of_column, 1),
    )
    transformed = (_TILES_IN @ tiles.reshape(_INPUT**2, -1)).view(_INPUT**2, -1, channels)
    products = torch.bmm(transformed, kernel)
    outputs = (_TILES_OUT @ products.view(_INPUT**2, -1)).view(_OUTPUT, _OUTPUT, n, rows, columns, -1)
    outputs = outputs.permute(2, 3, 0, 4, 1, 5).reshape(n, _OUTPUT * rows, _OUTPUT * columns, -1)
    outputs = outputs[:, :height, :width]
    return (outputs if bias is None else outputs + bias).permute(0, 3, 1, 2)
