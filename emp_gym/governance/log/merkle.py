"""RFC 6962 Merkle trees: roots, inclusion and consistency proofs, and their verification.

Letters: a *node* (level, position) is the hash of the complete subtree over the leaves
[position << level, (position + 1) << level). Whoever can give any complete node of a tree (`NodeOf`) can prove
things about it, whatever the store looks like.

Source: RFC 6962 section 2.1 (tree and proofs), RFC 9162 sections 2.1.3.2 and 2.1.4.2 (verification, which RFC 6962
left out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from emp_gym.types import ConfigError

NodeOf = Callable[[int, int], bytes]
Node = tuple[int, int, bytes]  # level, position, hash
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf: SHA-256(0x00 ‖ data)."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\1" + left + right).digest()


class Frontier:
    """A growing tree: the complete subtrees that make up its leaves, largest first. O(log n) memory."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)  # one for each bit set in size, from the highest

    @classmethod
    def of(cls, node: NodeOf, size: int) -> Frontier:
        """The frontier of a stored tree."""
        peaks, begin = [], 0
        for level in range(size.bit_length() - 1, -1, -1):
            if size >> level & 1:
                peaks.append(node(level, begin >> level))
                begin += 1 << level
        return cls(size, peaks)

    def copy(self) -> Frontier:
        return Frontier(self.size, self._peaks)

    def append(self, leaf: bytes, level: int = 1) -> list[Node]:
        """Adds a leaf hash; returns the nodes of at least `level` that became complete. O(1) hashes on average."""
        kept: list[Node] = []
        position, height, digest = self.size, 0, leaf
        while position & 1:
            digest = sha256(b"\1" + self._peaks.pop() + digest).digest()
            position >>= 1
            height += 1
            if height >= level:
                kept.append((height, position, digest))
        self._peaks.append(digest)
        self.size += 1
        return kept

    def root(self) -> bytes:
        """Root of the leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        digest = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            digest = node_hash(peak, digest)
        return digest


def _split(count: int) -> int:
    """The largest power of two smaller than `count` (at least 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def span_root(node: NodeOf, begin: int, end: int) -> bytes:
    """Root over the leaves [begin, end), where `begin` is a place at which the tree splits."""
    count = end - begin
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, begin >> level)
    middle = begin + _split(count)
    return node_hash(span_root(node, begin, middle), span_root(node, middle, end))


def inclusion_proof(node: NodeOf, index: int, size: int) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves, lowest sibling first (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size:
        raise ConfigError(f"leaf {index} is not in a tree of {size} leaves; expected 0 to {size - 1}")
    path, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(span_root(node, middle, end))
            end = middle
        else:
            path.append(span_root(node, begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(node: NodeOf, old: int, new: int) -> list[bytes]:
    """That the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962 section 2.1.2)."""
    if not 0 < old <= new:
        raise ConfigError(f"a tree of {old} leaves cannot be the beginning of one of {new}; expected 0 < old <= new")
    path, begin, end = [], 0, new
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(span_root(node, middle, end))
            end = middle
        else:
            path.append(span_root(node, begin, middle))
            begin = middle
    if begin:  # a verifier does not know this subtree yet; the whole old tree it knows
        path.append(span_root(node, begin, end))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` shows that the leaf hash stands at `index` of the tree with this size and root."""
    if not 0 <= index < size:
        return False
    at, last, digest = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            digest = node_hash(sibling, digest)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            digest = node_hash(digest, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and digest == root


def verify_consistency(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `path` shows that the new tree begins with the old one."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    hashes = list(path) if old & (old - 1) else [old_root, *path]
    if not hashes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root
