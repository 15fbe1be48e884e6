"""The networks that the PyTorch peers train: `tiny` and `speednet`, layer by layer what models/ builds."""
import torch
from torch import nn


def tiny():
    layers = []
    for c, k in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def speednet():
    def conv(c, k):
        layer = nn.Conv2d(c, k, 3, padding=1, bias=False)
        nn.init.dirac_(layer.weight.data[:c])
        return layer

    def norm(k):
        layer = nn.BatchNorm2d(k, eps=1e-12, momentum=0.4)
        layer.weight.requires_grad_(False)
        return layer

    whiten = nn.Conv2d(3, 24, 2)
    whiten.weight.requires_grad_(False)
    layers = [whiten, nn.GELU()]
    for c, k in ((24, 64), (64, 256), (256, 256)):
        layers += [conv(c, k), nn.MaxPool2d(2), norm(k), nn.GELU(), conv(k, k), norm(k), nn.GELU()]
    head = nn.Linear(256, 10, bias=False)
    head.weight.data /= head.weight.data.std()
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), head, Scale(1 / 256))


def build(name):
    return {"tiny": tiny, "speednet": speednet}[name]().to(memory_format=torch.channels_last)


class Batches:
    """u8 pictures (N, H, W, C) to normalised, randomly mirrored f32 batches that are channels_last in memory."""

    def __init__(self, images, mean, std):
        self.images = images
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def __call__(self, index, mirror):
        batch = self.images[index]
        if mirror is not None:
            batch = torch.where(mirror.view(-1, 1, 1, 1), batch.flip(2), batch)
        return batch.float().mul_(self.scale).add_(self.shift).permute(0, 3, 1, 2)
