"""The peers of `make bench-shadows`, each measured in this process on one core."""
import ctypes
import os
import statistics
import time

import bai_numpy


def megabytes_per_second(work, byte_count, seconds):
    """Of the median run, after one that pays for memory never touched; at least three."""
    work()
    runs, end = [], time.perf_counter() + seconds
    while len(runs) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        runs.append(time.perf_counter() - start)
    return byte_count / 1e6 / statistics.median(runs)


def _segments(secret, threshold):
    size = -(-len(secret) // threshold)
    size += -size % 64
    padded = secret + bytes(size * threshold - len(secret))
    return size, [padded[k * size:(k + 1) * size] for k in range(threshold)]


def zfec(secret, threshold, shadows, seconds):
    """Reed-Solomon of Tahoe-LAFS: hides nothing, no digests."""
    import zfec as library
    _, segments = _segments(secret, threshold)
    encoder, decoder = library.Encoder(threshold, shadows), library.Decoder(threshold, shadows)
    shares, kept = encoder.encode(segments), list(range(shadows - threshold, shadows))
    assert b"".join(decoder.decode([shares[k] for k in kept], kept))[:len(secret)] == secret
    return {"split": megabytes_per_second(lambda: encoder.encode(segments), len(secret), seconds),
            "join": megabytes_per_second(lambda: decoder.decode([shares[k] for k in kept], kept), len(secret), seconds)}


def isal(secret, threshold, shadows, seconds):
    """Intel's ISA-L alone, parity from data shards that lie ready: hides nothing, copies nothing, no digests."""
    import numpy as np
    library, byte = ctypes.CDLL("libisal.so.2"), ctypes.c_ubyte
    size, segments = _segments(secret, threshold)
    matrix = (byte * (shadows * threshold))()
    library.gf_gen_cauchy1_matrix(matrix, shadows, threshold)

    def tables(rows, coefficients):
        made = (byte * (32 * threshold * rows))()
        library.ec_init_tables(threshold, rows, coefficients, made)
        return made

    def aligned():
        room = np.empty(size + 64, np.uint8)
        return room[-room.ctypes.data % 64:][:size]

    def pointers(buffers):
        return (ctypes.c_void_p * len(buffers))(*[buffer.ctypes.data for buffer in buffers])

    data, parity = [aligned() for _ in segments], [aligned() for _ in range(shadows - threshold)]
    for buffer, segment in zip(data, segments):
        buffer[:] = np.frombuffer(segment, np.uint8)
    encoding = tables(shadows - threshold, ctypes.byref(matrix, threshold * threshold))
    sources, targets = pointers(data), pointers(parity)
    encode = lambda: library.ec_encode_data(size, threshold, shadows - threshold, encoding, sources, targets)
    encode()
    kept = list(range(shadows - threshold, shadows))
    missing = [shard for shard in range(threshold) if shard not in kept]
    available, rebuilt = pointers([(data + parity)[shard] for shard in kept]), [aligned() for _ in missing]
    results = pointers(rebuilt)

    def decode():
        rows = (byte * (threshold * threshold))(*[matrix[k * threshold + j] for k in kept for j in range(threshold)])
        inverse = (byte * (threshold * threshold))()
        assert library.gf_invert_matrix(rows, inverse, threshold) == 0
        wanted = (byte * (threshold * len(missing)))(*[inverse[k * threshold + j] for k in missing for j in range(threshold)])
        library.ec_encode_data(size, threshold, len(missing), tables(len(missing), wanted), available, results)

    decode()
    assert all((one == data[shard]).all() for one, shard in zip(rebuilt, missing))
    return {"split": megabytes_per_second(encode, len(secret), seconds),
            "join": megabytes_per_second(decode, len(secret), seconds)}


def numpy(secret, threshold, shadows, seconds):
    """The paper's algorithms in vectorised numpy; a long secret is measured by its first 8 MiB."""
    secret = secret[:8 << 20]
    scheme = bai_numpy.Scheme(threshold, shadows)
    parts = scheme.split(secret)
    assert scheme.join(parts) == secret
    return {"split": megabytes_per_second(lambda: scheme.split(secret), len(secret), seconds),
            "join": megabytes_per_second(lambda: scheme.join(parts), len(secret), seconds)}


ALL = {"zfec": zfec, "isal": isal, "numpy": numpy}


def measure(name, byte_count, threshold, shadows, seconds):
    return ALL[name](os.urandom(byte_count), threshold, shadows, seconds)
