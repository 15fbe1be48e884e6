#!/usr/bin/python3
"""Golden pixels of the corruptions by numpy, SciPy and Pillow: prints the rows of tests/golden/corruptions.h.

The picture is pixel(y, x, c) = (3 x + 5 y + 40 c + (x y (c + 1)) mod 50) mod 256, 32 x 32, image 0. Draws are Philox4x32-10
(reference.py) of seed 7, stream "corruptions.<type>", step 0 and the element numbers that data/corrupt_*.cpp name. Shot noise
(a sampler of its own), motion blur (a kernel of its own), glass blur and JPEG (an encoder of its own) are not here.
"""
import colorsys
import math

import numpy as np
from PIL import Image
from scipy import ndimage

from reference import philox4x32

SEED = 7
PLACES = [(0, 0, 0), (3, 17, 1), (12, 12, 2), (20, 5, 0), (31, 30, 1), (16, 31, 2)]


def picture():
    y, x, c = np.meshgrid(np.arange(32), np.arange(32), np.arange(3), indexing="ij")
    return ((3 * x + 5 * y + 40 * c + (x * y * (c + 1)) % 50) % 256).astype(np.uint8)


def bits(stream, elements):
    name = 0xCBF29CE484222325
    for byte in f"corruptions.{stream}".encode():
        name = (name ^ byte) * 0x100000001B3 % 2**64
    elements = np.asarray(elements)
    zero = np.zeros(elements.shape, np.uint64)
    words = philox4x32([elements // 4, zero, zero + np.uint64(name % 2**32), zero + np.uint64(name // 2**32)], (SEED, 0))
    return np.choose(elements % 4, [np.asarray(word, np.int64) for word in words])


def uniform(stream, elements):
    return (bits(stream, elements) >> 8) * 2.0**-24


def normal(stream, elements):
    first = bits(stream, 2 * elements)
    second = bits(stream, 2 * elements + 1)
    return np.sqrt(-2 * np.log(((first >> 8) + 1) * 2.0**-24)) * np.cos(2 * np.pi * (second >> 8) * 2.0**-24)


ELEMENTS = np.arange(32 * 32 * 3).reshape(32, 32, 3)


def gaussian_noise(x, s):
    return x + [.04, .06, .08, .09, .10][s] * normal("gaussian_noise", ELEMENTS)


def speckle_noise(x, s):
    return x + x * [.06, .1, .12, .16, .2][s] * normal("speckle_noise", ELEMENTS)


def impulse_noise(x, s):
    hit = uniform("impulse_noise", 2 * ELEMENTS) < [.01, .02, .03, .05, .07][s]
    return np.where(hit, uniform("impulse_noise", 2 * ELEMENTS + 1) >= .5, x)


def gaussian_blur(x, s):
    sigma = [.4, .6, .7, .8, 1][s]
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def defocus_blur(x, s):
    radius, alias = [(.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)][s]
    at = np.arange(-8, 9)
    disc = (at[:, None]**2 + at[None, :]**2 <= radius**2).astype(float)
    line = np.exp(-np.arange(-1, 2)**2 / (2 * alias**2))
    line /= line.sum()
    kernel = ndimage.correlate(disc / disc.sum(), np.outer(line, line), mode="mirror")
    return np.stack([ndimage.correlate(x[..., c], kernel, mode="mirror") for c in range(3)], -1)


def zoom_blur(x, s):
    total = x.copy()
    factors = [1 + .01 * k for k in range([6, 11, 16, 21, 26][s])]
    for factor in factors:
        side = math.ceil(32 / factor)
        top = (32 - side) // 2
        grown = ndimage.zoom(x[top:top + side, top:top + side], (factor, factor, 1), order=1)
        trim = (grown.shape[0] - 32) // 2
        total += grown[trim:trim + 32, trim:trim + 32]
    return total / (len(factors) + 1)


def brightness(x, s):
    def pixel(rgb):
        h, l, v = colorsys.rgb_to_hsv(*rgb)
        return colorsys.hsv_to_rgb(h, l, min(v + [.05, .1, .15, .2, .3][s], 1))
    return np.apply_along_axis(pixel, 2, x)


def contrast(x, s):
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * [.75, .5, .4, .3, .15][s] + mean


def pixelate(x, s):
    side = int(32 * [.95, .9, .85, .75, .65][s])
    image = Image.fromarray(picture()).resize((side, side), Image.BOX).resize((32, 32), Image.BOX)
    return np.asarray(image) / 255


def elastic(x, s):
    alpha, sigma, jitter = (32 * v for v in [(0, 0, .08), (.05, .2, .07), (.08, .06, .06), (.1, .04, .05), (.1, .03, .03)][s])
    source = np.array([[26, 26], [26, 6], [6, 6]], float)
    target = source + jitter * (2 * uniform("elastic", np.arange(6)).reshape(3, 2) - 1)
    back = np.linalg.solve(np.hstack([target, np.ones((3, 1))]), source).T  # (2, 3): places of the result to the picture's
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    u = back[0, 0] * columns + back[0, 1] * rows + back[0, 2]
    v = back[1, 0] * columns + back[1, 1] * rows + back[1, 2]
    moved = np.stack([ndimage.map_coordinates(x[..., c], [v, u], order=1, mode="mirror") for c in range(3)], -1)
    if alpha == 0:
        return moved
    shift = 2 * uniform("elastic", 6 + np.arange(32 * 32 * 2)).reshape(32, 32, 2) - 1
    shift = alpha * ndimage.gaussian_filter(shift, (sigma, sigma, 0), mode="reflect", truncate=3)
    return np.stack([ndimage.map_coordinates(moved[..., c], [rows + shift[..., 1], columns + shift[..., 0]], order=1,
                                             mode="reflect") for c in range(3)], -1)


def fog(x, s):
    amount, decay = [(.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)][s]
    grid, wibble, drawn, step = np.zeros((32, 32)), 100.0, 0, 32
    while step >= 2:
        half = step // 2
        corners = grid[::step, ::step]
        across = corners + np.roll(corners, -1, 0)
        middles = across + np.roll(across, -1, 1)
        size = middles.shape
        noise = 2 * uniform("fog", drawn + np.arange(middles.size)).reshape(size) - 1
        drawn += middles.size
        grid[half::step, half::step] = middles / 4 + wibble**2 * noise
        for y in range(0, 32, half):
            for column in range(half if y % step == 0 else 0, 32, step):
                near = sum(grid[(y + a) % 32, (column + b) % 32] for a, b in [(-half, 0), (half, 0), (0, -half), (0, half)])
                grid[y, column] = near / 4 + wibble**2 * (2 * uniform("fog", drawn) - 1)
                drawn += 1
        step //= 2
        wibble /= decay
    grid -= grid.min()
    return (x + amount * (grid / grid.max())[..., None]) * x.max() / (x.max() + amount)


if __name__ == "__main__":
    clean = picture() / 255
    for function in (gaussian_noise, speckle_noise, impulse_noise, gaussian_blur, defocus_blur, zoom_blur, brightness,
                     contrast, pixelate, elastic, fog):
        for severity in (1, 3, 5):
            pixels = (np.clip(function(clean, severity - 1), 0, 1) * 255).astype(np.uint8)
            print(f'    {{"{function.__name__}", {severity}, {{{", ".join(str(pixels[p]) for p in PLACES)}}}}},')
