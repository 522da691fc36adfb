"""Winograd's algorithm for 3 x 3 convolutions: F(4 x 4, 3 x 3) of Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks" (2016), forward and backward. A quarter of the multiplications, rounded in another way.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["transform_kernel", "winograd_conv2d"]

# Sec. 4.3 of that paper: a tile of 6 x 6 inputs gives 4 x 4 outputs, A^T [(G g G^T) * (B^T d B)] A.
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
# Rows and columns in one product: kron(X, X) times a tile as a vector is X times the tile times X^T.
_FROM_IMAGE, _TO_OUTPUT, _FROM_KERNEL = torch.kron(_B, _B).float(), torch.kron(_A, _A).float(), torch.kron(_G, _G)


def transform_kernel(weight: Tensor) -> Tensor:
    """Transform a weight (O, C, 3, 3) fp32 into (36, C, O), in fp64 until the end."""
    out_channels, channels = weight.shape[:2]
    taps = weight.detach().permute(2, 3, 1, 0).reshape(9, -1).double()
    return (_FROM_KERNEL @ taps).float().view(-1, channels, out_channels)


def winograd_conv2d(image: Tensor, weight: Tensor, bias: Tensor | None = None, kernel: Tensor | None = None) -> Tensor:
    """Convolve by 3 x 3 with stride 1 and padding 1 on the CPU, with gradients.

    Args:
        image: (N, C, H, W) fp32, fastest in channels-last order.
        weight: (O, C, 3, 3).
        bias: (O,).
        kernel: (36, C, O), ``transform_kernel(weight)`` if it was computed before; None computes it.

    Returns:
        (N, O, H, W), channels-last; equal to ``F.conv2d`` up to a few 1e-5 of the size of its values.
    """
    output = _Convolution.apply(image, weight, transform_kernel(weight) if kernel is None else kernel)
    return output if bias is None else output + bias[:, None, None]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        return _convolve(image, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        image, weight = ctx.saved_tensors
        of_image = of_weight = None
        if ctx.needs_input_grad[0]:
            # Convolve the gradient with the kernel rotated by 180 degrees and its channels swapped.
            of_image = _convolve(gradient, transform_kernel(weight.flip(2, 3).transpose(0, 1)))
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(image, gradient)
        return of_image, of_weight, None


def _gradient_of_weight(image: Tensor, gradient: Tensor) -> Tensor:
    """Transpose the forward pass. Tiles are computed again: kept, they would take 9/4 of the image's memory."""
    channels, out_channels = image.shape[1], gradient.shape[1]
    tiles = (_FROM_IMAGE @ _tiles_of_image(image)).view(_INPUT**2, -1, channels)
    of_products = (_TO_OUTPUT.T @ _tiles_of_output(gradient)).view(_INPUT**2, -1, out_channels)
    of_kernel = torch.bmm(tiles.transpose(1, 2), of_products)
    of_taps = _FROM_KERNEL.T.float() @ of_kernel.view(_INPUT**2, -1)
    return of_taps.view(3, 3, channels, out_channels).permute(3, 2, 0, 1)


def _convolve(image: Tensor, kernel: Tensor) -> Tensor:
    n, channels, height, width = image.shape
    rows, columns = _grid(image)
    transformed = (_FROM_IMAGE @ _tiles_of_image(image)).view(_INPUT**2, -1, channels)
    products = torch.bmm(transformed, kernel)
    outputs = (_TO_OUTPUT @ products.view(_INPUT**2, -1)).view(_OUTPUT, _OUTPUT, n, rows, columns, -1)
    outputs = outputs.permute(2, 3, 0, 4, 1, 5).reshape(n, _OUTPUT * rows, _OUTPUT * columns, -1)
    return outputs[:, :height, :width].permute(0, 3, 1, 2)


def _grid(image: Tensor) -> tuple[int, int]:
    """Count the rows and columns of tiles."""
    return -(-image.shape[2] // _OUTPUT), -(-image.shape[3] // _OUTPUT)


def _tiles_of_image(image: Tensor) -> Tensor:
    """Cut (N, C, H, W) into (36, tiles * C), the inputs of every tile; neighbours overlap by two."""
    n, channels, height, width = image.shape
    rows, columns = _grid(image)
    padded = F.pad(image, (1, _OUTPUT * columns + 1 - width, 1, _OUTPUT * rows + 1 - height))
    padded = padded.permute(0, 2, 3, 1).contiguous()
    of_image, of_row, of_column, _ = padded.stride()
    tiles = padded.as_strided(
        (_INPUT, _INPUT, n, rows, columns, channels),
        (of_row, of_column, of_image, _OUTPUT * of_row, _OUTPUT * of_column, 1),
    )
    return tiles.reshape(_INPUT**2, -1)


def _tiles_of_output(output: Tensor) -> Tensor:
    """Cut (N, O, H, W) into (16, tiles * O), zeros beyond the edge."""
    n, channels, height, width = output.shape
    rows, columns = _grid(output)
    padded = F.pad(output, (0, _OUTPUT * columns - width, 0, _OUTPUT * rows - height)).permute(0, 2, 3, 1)
    tiles = padded.reshape(n, rows, _OUTPUT, columns, _OUTPUT, channels)
    return tiles.permute(2, 4, 0, 1, 3, 5).reshape(_OUTPUT**2, -1)
