"""Plain numpy layers in f64 with hand-written backward passes, and the pictures and weights of the golden runs.

Everything a run starts from is computed from formulas, so that a test in another language can compute the same bits.

Random bits
    bits(seed, stream, step, element) is word element % 4 of Philox4x32-10 (Salmon et al., SC 2011) with
    key = (seed mod 2^32, seed div 2^32) and counter = (element div 4, step, stream mod 2^32, stream div 2^32).
    A stream is the 64-bit FNV-1a hash of a name in UTF-8. uniform = (bits >> 8) * 2^-24, in [0, 1). Here seed = 1.

Labels
    label(n) = bits("golden.label", step 0, element n) mod 10, for n = 0 .. 639.

Pictures, u8, (n, y, x, c) with y, x = 0 .. 31 and c = 0 .. 2, in integer arithmetic only
    byte(name, step, element) = bits(name, step, element) >> 24.
    A grid has 5 x 9 nodes (i, j): rows of nodes lie 8 pixels apart, columns 4 pixels, the outermost on the border.
    T(i, j) = byte("golden.class", step label(n), element (9 i + j) 4 + c), shared by the pictures of a class
    G(i, j) = 3 B(3) + B(c) with B(k) = byte("golden.image", step n, element (9 i + j) 4 + k)
    Between nodes both are linear and scaled by 32: with i = y div 8, r = y mod 8, j = x div 4, s = x mod 4,
    up(A)(y, x) = (8-r) (4-s) A(i, j) + (8-r) s A(i, j+1) + r (4-s) A(i+1, j) + r s A(i+1, j+1).
    F(y, x) = byte("golden.noise", step n, element (32 y + x) 3 + c), weighted with f = (600, 400, 800) per channel.
    sum = 102 up(T) + 26 up(G) + f F - (318240 + 255 f / 2);  pixel = min(max(sum, 0), 255 * 4096) div 4096.
    The grid is finer across than down and the noise differs between channels, so the 12 eigenvalues of the 2 x 2
    patches lie well apart.

Normalised picture: (pixel / 255 - mean) / std, where mean and std are f32 constants widened to f64.

Initial weights
    uniform_parameter(name, shape, bound): element e in row-major order of the stored shape, (K, R, S, C) for a
    convolution, is f32((2 uniform(name, step 0, element e) - 1) * bound), computed in f64 and rounded to f32 once.
    Every other initial value is rounded to f32 too, so runs in f32 and f64 start from the same numbers.
"""
import json
import math

import numpy as np

SEED = 1
PICTURES = 640
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32).astype(np.float64)
STD = np.array([0.2470, 0.2435, 0.2616], np.float32).astype(np.float64)


# --- random bits ---------------------------------------------------------------------------------------------------


def philox4x32(counter, key):
    """Ten rounds on a counter of four and a key of two u32 words (arrays or numbers); the four output words."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    counter = [np.asarray(word, np.uint64) for word in counter]
    key = [int(word) for word in key]
    for _ in range(10):
        a = counter[0] * np.uint64(0xD2511F53)
        b = counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (b >> shift) ^ counter[1] ^ np.uint64(key[0]),
            b & low,
            (a >> shift) ^ counter[3] ^ np.uint64(key[1]),
            a & low,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def stream_of(name):
    """The 64-bit FNV-1a hash of a name."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def bits(name, step, element):
    """The u32 draws (as u64) of a named stream for arrays of steps and elements."""
    step, element = np.broadcast_arrays(np.asarray(step, np.uint64), np.asarray(element, np.uint64))
    stream = stream_of(name)
    zero = np.zeros(element.shape, np.uint64)
    counter = [element // np.uint64(4), step, zero + np.uint64(stream % 2**32), zero + np.uint64(stream >> 32)]
    words = np.stack(philox4x32(counter, (SEED % 2**32, SEED >> 32)))
    return np.take_along_axis(words, (element % np.uint64(4)).astype(np.int64)[None], 0)[0]


def uniform_parameter(name, shape, bound):
    draws = bits(name, 0, np.arange(math.prod(shape))) >> np.uint64(8)
    return round_to_f32((2 * (draws.astype(np.float64) * 2.0**-24) - 1) * bound).reshape(shape)


def round_to_f32(x):
    return np.asarray(x).astype(np.float32).astype(np.float64)


# --- pictures --------------------------------------------------------------------------------------------------------


def labels():
    return (bits("golden.label", 0, np.arange(PICTURES)) % np.uint64(10)).astype(np.int64)


def pictures():
    """(PICTURES, 32, 32, 3) u8."""
    n = np.arange(PICTURES).reshape(-1, 1, 1, 1)
    channel = np.arange(3)
    node = ((9 * np.arange(5)[:, None] + np.arange(9)) * 4)[..., None]  # (5, 9, 1)
    pixel = np.arange(32 * 32 * 3).reshape(32, 32, 3)

    def byte(name, step, element):
        return (bits(name, step, element) >> np.uint64(24)).astype(np.int64)

    def up(nodes):  # (n, 5, 9, 3) -> (n, 32, 32, 3), scaled by 32
        i, r = np.divmod(np.arange(32), 8)
        r = r.reshape(-1, 1, 1)
        rows = (8 - r) * nodes[:, i] + r * nodes[:, i + 1]
        j, s = np.divmod(np.arange(32), 4)
        s = s.reshape(-1, 1)
        return (4 - s) * rows[:, :, j] + s * rows[:, :, j + 1]

    of_class = byte("golden.class", labels().reshape(-1, 1, 1, 1), node + channel)
    of_image = 3 * byte("golden.image", n, node + 3) + byte("golden.image", n, node + channel)
    weight = np.array([600, 400, 800])
    total = 102 * up(of_class) + 26 * up(of_image) + weight * byte("golden.noise", n, pixel)
    total -= 318240 + 255 * weight // 2
    return (np.clip(total, 0, 255 * 4096) // 4096).astype(np.uint8)


def normalise(images):
    return (images.astype(np.float64) / 255 - MEAN) / STD


def fingerprint(values):
    """A 64-bit FNV-1a hash of bytes, as a hexadecimal string (JSON numbers hold only 53 bits)."""
    state = 0xCBF29CE484222325
    for byte in np.asarray(values, np.uint8).tobytes():
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


# --- layers, each a forward that returns what its backward needs -----------------------------------------------------


def patches(x, r, s, pad):
    """(N, H, W, C) -> (N, P, Q, R * S * C), the receptive field of every output pixel, taps outermost."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    p, q = x.shape[1] - r + 1, x.shape[2] - s + 1
    return np.concatenate([x[:, i : i + p, j : j + q] for i in range(r) for j in range(s)], axis=3)


def conv2d(x, w, pad):
    """x (N, H, W, C), w (K, R, S, C), stride 1 -> (N, P, Q, K)."""
    k, r, s, _ = w.shape
    columns = patches(x, r, s, pad)
    flat = columns.reshape(-1, columns.shape[3])
    return (flat @ w.reshape(k, -1).T).reshape(*columns.shape[:3], k), (flat, x.shape, w, pad)


def conv2d_backward(dy, saved, need_dx=True):
    flat, x_shape, w, pad = saved
    k, r, s, c = w.shape
    dw = (dy.reshape(-1, k).T @ flat).reshape(w.shape)
    if not need_dx:
        return None, dw
    _, p, q, _ = dy.shape
    columns = (dy.reshape(-1, k) @ w.reshape(k, -1)).reshape(*dy.shape[:3], r, s, c)
    n, h, width, _ = x_shape
    dx = np.zeros((n, h + 2 * pad, width + 2 * pad, c))
    for i in range(r):
        for j in range(s):
            dx[:, i : i + p, j : j + q] += columns[:, :, :, i, j]
    return dx[:, pad : pad + h, pad : pad + width], dw


def max_pool(x, size):
    """Windows of size x size, stride size; rows and columns that fill no window are dropped. The first maximum wins."""
    n, h, w, c = x.shape
    p, q = h // size, w // size
    windows = x[:, : p * size, : q * size].reshape(n, p, size, q, size, c).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(n, p, q, c, size * size)
    index = windows.argmax(-1)[..., None]
    return np.take_along_axis(windows, index, -1)[..., 0], (x.shape, size, index)


def max_pool_backward(dy, saved):
    (n, h, w, c), size, index = saved
    p, q = dy.shape[1:3]
    windows = np.zeros((n, p, q, c, size * size))
    np.put_along_axis(windows, index, dy[..., None], -1)
    dx = np.zeros((n, h, w, c))
    inner = windows.reshape(n, p, q, c, size, size).transpose(0, 1, 4, 2, 5, 3)
    dx[:, : p * size, : q * size] = inner.reshape(n, p * size, q * size, c)
    return dx


class BatchNorm:
    """Per-channel norm over (N, H, W): the biased variance normalises, the unbiased one goes into running_var."""

    def __init__(self, channels, eps, momentum):
        self.eps, self.momentum = eps, momentum
        self.running_mean, self.running_var = np.zeros(channels), np.ones(channels)

    def train(self, x):
        rows = x.size // x.shape[3]
        mean = x.mean((0, 1, 2))
        var = ((x - mean) ** 2).mean((0, 1, 2))
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (var * rows / (rows - 1) - self.running_var)
        scale = 1 / np.sqrt(var + self.eps)
        normed = (x - mean) * scale
        return normed, (normed, scale)

    def eval(self, x):
        return (x - self.running_mean) / np.sqrt(self.running_var + self.eps)

    @staticmethod
    def backward(dy, saved):
        normed, scale = saved
        return scale * (dy - dy.mean((0, 1, 2)) - normed * (dy * normed).mean((0, 1, 2)))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x):
    half_erf = 0.5 * (1 + _erf(x * math.sqrt(0.5)))
    return x * half_erf, (x, half_erf)


def gelu_backward(dy, saved):
    x, half_erf = saved
    return dy * (half_erf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


def cross_entropy(logits, label, smoothing):
    """Loss of every sample, (N), and the gradient of their sum."""
    n, classes = logits.shape
    target = np.full((n, classes), smoothing / classes)
    target[np.arange(n), label] += 1 - smoothing
    shifted = logits - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -(target * log_probability).sum(1), np.exp(log_probability) - target


# --- results ---------------------------------------------------------------------------------------------------------


def norm(x):
    return float(np.sqrt((np.asarray(x) ** 2).sum()))


def summary(x):
    """What a golden keeps of a tensor: its shape, norm, sum, and first and last four elements in row-major order."""
    flat = np.asarray(x).ravel()
    return {
        "shape": list(np.shape(x)),
        "norm": norm(flat),
        "sum": float(flat.sum()),
        "first": flat[:4].tolist(),
        "last": flat[-4:].tolist(),
    }


def common_facts(images, label):
    """What fixes the inputs: enough to find a mistake in a second implementation of the formulas."""
    return {
        "bits_step3": {name: bits(name, 3, np.arange(6)).tolist() for name in ("golden.image", "head.weight")},
        "labels": label.tolist(),
        "pictures_fnv1a64": fingerprint(images),
        "first_picture_row": images[0, 0, :8].ravel().tolist(),
        "mean": MEAN.tolist(),
        "std": STD.tolist(),
    }


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def check_gradients(loss_of, parameters, gradients, entries=4):
    """Central differences of loss_of() at a few elements of every parameter; the worst error / max(1, |g|).

    Of three step sizes the best counts: a wide one may move a max-pool or relu over its kink, a narrow one is rounding.
    """
    worst = 0.0
    for name, gradient in gradients.items():
        flat = parameters[name].reshape(-1)
        for e in np.linspace(0, flat.size - 1, entries).astype(int):
            g, errors = gradient.ravel()[e], []
            for h in (1e-5, 1e-6, 1e-7):
                kept = flat[e]
                flat[e] = kept + h
                above = loss_of()
                flat[e] = kept - h
                below = loss_of()
                flat[e] = kept
                errors.append(abs((above - below) / (2 * h) - g) / max(1, abs(g)))
            print(f"  {name}[{e}]  backward {g:+.9e}  error {min(errors):.2e}", flush=True)
            worst = max(worst, min(errors))
    return worst


def check_random_bits():
    """Known answers of Philox4x32-10 from the Random123 distribution, and of FNV-1a."""
    full = 0xFFFFFFFF
    known = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((full,) * 4, (full,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, words in known:
        assert tuple(int(w) for w in philox4x32(counter, key)) == words
    assert stream_of("") == 0xCBF29CE484222325 and stream_of("a") == 0xAF63DC4C8601EC8C
