"""The paper's Algorithms 2 and 3 as a script in numpy would have them: matrix projection over 16 x 16 blocks of bytes modulo 257, all
blocks of a batch at once. No digests, no mask and no erasure code: the remainder stays beside the metadata, as the paper has it."""
import numpy as np

PRIME, ORDER, BATCH = 257, 16, 2048
_INVERSES = np.array([0] + [pow(value, PRIME - 2, PRIME) for value in range(1, PRIME)], np.int64)


def _inverse(matrices):
    """Gauss-Jordan of many r x r matrices at once: inverses, and which of them exist."""
    count, rank, _ = matrices.shape
    work = np.concatenate([matrices % PRIME, np.broadcast_to(np.eye(rank, dtype=np.int64), matrices.shape)], axis=2)
    regular, rows = np.ones(count, bool), np.arange(count)
    for column in range(rank):
        pivot = column + np.argmax(work[:, column:, column] != 0, axis=1)
        regular &= work[rows, pivot, column] != 0
        work[rows, pivot], work[:, column] = work[:, column].copy(), work[rows, pivot]
        work[:, column] = work[:, column] * _INVERSES[work[rows, column, column]][:, None] % PRIME
        factors = work[:, :, column].copy()
        factors[:, column] = 0
        work = (work - factors[:, :, None] * work[:, column][:, None, :]) % PRIME
    return work[:, :, rank:], regular


def _project(matrices):
    transposed = matrices.transpose(0, 2, 1)
    inverse, regular = _inverse(transposed @ matrices % PRIME)
    return (matrices @ inverse % PRIME) @ transposed % PRIME, regular


class Scheme:
    def __init__(self, threshold, shadows):
        self.threshold, self.kept = threshold, list(range(shadows - threshold, shadows))
        self.points = np.array([[pow(x, power, PRIME) for x in range(1, shadows + 1)] for power in range(threshold)], np.int64)
        self.random = np.random.default_rng()

    def split(self, secret):
        blocks = np.frombuffer(secret, np.uint8).reshape(-1, ORDER, ORDER).astype(np.int64)
        parts = []
        for start in range(0, len(blocks), BATCH):
            batch = blocks[start:start + BATCH]
            matrices = self.random.integers(0, PRIME, (len(batch), ORDER, self.threshold))
            projections, regular = _project(matrices)
            while not regular.all():
                again = np.flatnonzero(~regular)
                matrices[again] = self.random.integers(0, PRIME, (len(again), ORDER, self.threshold))
                projections[again], regular[again] = _project(matrices[again])
            parts.append(((matrices @ self.points % PRIME).astype(np.uint16), ((batch - projections) % PRIME).astype(np.uint16)))
        return parts

    def join(self, parts):
        blocks = []
        for vectors, remainders in parts:
            projections, regular = _project(vectors[:, :, self.kept].astype(np.int64))
            assert regular.all() and (np.trace(projections, axis1=1, axis2=2) % PRIME == self.threshold).all()
            blocks.append(((projections + remainders) % PRIME).astype(np.uint8))
        return np.concatenate(blocks).tobytes()
