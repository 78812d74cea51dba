"""The tree is that of RFC 6962: published vectors, a slow and obvious judge, and proofs that hold only where they should."""

from __future__ import annotations

import os
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp_gym.governance.log import merkle
from emp_gym.types import ConfigError

# Certificate Transparency's own test data (certificate-transparency-go, transparency-dev/merkle testonly/constants.go).
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
L1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
L4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
N11 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N12 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
N13 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
N21 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
INCLUSION = {  # (leaf, size) -> path
    (0, 1): [],
    (0, 8): [L1, N11, N21],
    (5, 8): [L4, N13, ROOTS[4]],
    (2, 3): [ROOTS[2]],
    (1, 5): [ROOTS[1], N11, L4],
}
CONSISTENCY = {(1, 1): [], (1, 8): [L1, N11, N21], (6, 8): [N12, N13, ROOTS[4]], (2, 5): [N11, L4]}


class Stored:
    """Every complete node of a tree, by brute force."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves

    def __call__(self, level: int, position: int) -> bytes:
        below = self.leaves[position << level : (position + 1) << level]
        assert len(below) == 1 << level, "only complete subtrees may be asked for"
        return judge_root(below)


def judge_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = max(1 << i for i in range(32) if 1 << i < len(leaves))
    return sha256(b"\x01" + judge_root(leaves[:k]) + judge_root(leaves[k:])).digest()


def judge_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = max(1 << i for i in range(32) if 1 << i < len(leaves))
    if m < k:
        return [*judge_path(m, leaves[:k]), judge_root(leaves[k:])]
    return [*judge_path(m - k, leaves[k:]), judge_root(leaves[:k])]


def judge_subproof(m: int, leaves: list[bytes], known: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if m == len(leaves):
        return [] if known else [judge_root(leaves)]
    k = max(1 << i for i in range(32) if 1 << i < len(leaves))
    if m <= k:
        return [*judge_subproof(m, leaves[:k], known), judge_root(leaves[k:])]
    return [*judge_subproof(m - k, leaves[k:], False), judge_root(leaves[:k])]


class Judged:
    """RFC 6962 once more, in another way: all levels of a tree as lists, an odd last hash moving up as it is."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.levels = [[sha256(b"\x00" + leaf).digest() for leaf in leaves]]
        while len(below := self.levels[-1]) > 1:
            pairs = [sha256(b"\x01" + a + b).digest() for a, b in zip(below[::2], below[1::2])]
            self.levels.append(pairs + below[len(below) & ~1 :])

    @property
    def root(self) -> bytes:
        return self.levels[-1][0]

    def path(self, leaf: int) -> list[bytes]:
        """The siblings on the way up; a hash that moves up alone has none."""
        return [level[at ^ 1] for i, level in enumerate(self.levels) if (at := leaf >> i) ^ 1 < len(level)]

    def node(self, level: int, position: int) -> bytes:
        assert (position + 1) << level <= len(self.levels[0]), "only complete subtrees may be asked for"
        return self.levels[level][position]


def differs(random: Random) -> str:
    """One random tree: growth, roots, a proof of each kind, and the same proofs bent. Says what is not as it must be."""
    size = random.choice([random.randint(1, 20), random.randint(1, 300), 1 << random.randint(0, 8)])
    leaves = [random.randbytes(random.randrange(40)) for _ in range(size)]
    old, leaf = random.randint(1, size), random.randrange(size)
    before, after, tree, nodes = Judged(leaves[:old]), Judged(leaves), merkle.Frontier(), {}
    for i, data in enumerate(leaves):
        for level, position, digest in tree.append(merkle.leaf_hash(data)):
            nodes[level, position] = digest
        if i + 1 == old and tree.root() != before.root:
            return f"root of the first {old} of {size}"
    wrong = [place for place, digest in nodes.items() if digest != after.node(*place)]
    again = merkle.Frontier.of(after.node, size).root()
    if wrong or not tree.root() == again == merkle.span_root(after.node, 0, size) == after.root:
        return f"root of {size}, nodes {wrong}"
    path, proof = merkle.inclusion_proof(after.node, leaf, size), merkle.consistency_proof(after.node, old, size)
    own, other = merkle.leaf_hash(leaves[leaf]), random.randbytes(32)
    if path != after.path(leaf) or not merkle.verify_inclusion(own, leaf, size, path, after.root):
        return f"inclusion of {leaf} in {size}"
    if not merkle.verify_consistency(old, size, proof, before.root, after.root):
        return f"consistency of {old} with {size}"
    at = random.randrange(size)
    bent = [
        merkle.verify_inclusion(other, leaf, size, path, after.root),
        merkle.verify_inclusion(own, leaf, size, path, other),
        leaves[at] != leaves[leaf] and merkle.verify_inclusion(own, at, size, path, after.root),
        merkle.verify_inclusion(own, leaf, size, [*path, other], after.root),
        merkle.verify_inclusion(own, leaf, size, path[1:], after.root) and bool(path),
        merkle.verify_consistency(old, size, proof, other, after.root),
        merkle.verify_consistency(old, size, proof, before.root, other),
        merkle.verify_consistency(old, size, [*proof, other], before.root, after.root),
    ]
    return f"bent proofs hold: {bent}, {old}, {leaf}, {size}" if any(bent) else ""


def differs_from_pymerkle(random: Random) -> str:
    """One random tree against the package pymerkle: its roots, leaf and audit path; and its proofs hold for our roots."""
    import pymerkle

    size = random.choice([random.randint(1, 20), random.randint(1, 120)])
    leaves = [random.randbytes(random.randrange(40)) for _ in range(size)]
    theirs = pymerkle.InmemoryTree.init_from_entries(leaves, algorithm="sha256")
    old, leaf = random.randint(1, size), random.randrange(size)
    own, root, old_root = merkle.leaf_hash(leaves[leaf]), frontier(leaves).root(), frontier(leaves[:old]).root()
    if (theirs.get_root(size), theirs.get_root(old), theirs.get_leaf(leaf + 1)) != (root, old_root, own):
        return f"roots of {old} and {size}, leaf {leaf}"
    inclusion, consistency = theirs.prove_inclusion(leaf + 1, size), theirs.prove_consistency(old, size)
    pymerkle.verify_inclusion(own, root, inclusion)  # these raise
    pymerkle.verify_consistency(old_root, root, consistency)
    same = inclusion.path == [own, *merkle.inclusion_proof(Judged(leaves).node, leaf, size)]
    return "" if same else f"inclusion of {leaf} in {size}"


def frontier(leaves: list[bytes]) -> merkle.Frontier:
    tree = merkle.Frontier()
    for leaf in leaves:
        tree.append(merkle.leaf_hash(leaf))
    return tree


def test_hashes_are_those_of_the_published_hasher_vectors():
    assert merkle.EMPTY_ROOT.hex() == ROOTS[0]
    assert merkle.leaf_hash(b"").hex() == ROOTS[1]
    assert merkle.leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert (
        merkle.node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size):
    assert frontier(LEAVES[:size]).root().hex() == ROOTS[size]
    assert merkle.Frontier.of(Stored(LEAVES), size).root().hex() == ROOTS[size]


@pytest.mark.parametrize(("leaf", "size"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(leaf, size):
    path = merkle.inclusion_proof(Stored(LEAVES), leaf, size)
    assert [step.hex() for step in path] == INCLUSION[leaf, size]
    assert merkle.verify_inclusion(merkle.leaf_hash(LEAVES[leaf]), leaf, size, path, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(old, new):
    path = merkle.consistency_proof(Stored(LEAVES), old, new)
    assert [step.hex() for step in path] == CONSISTENCY[old, new]
    assert merkle.verify_consistency(old, new, path, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


@given(st.integers(1, 130), st.data())
def test_every_proof_equals_the_judges_and_holds(size, data):
    leaves = [bytes([i]) * (i % 3) for i in range(size)]
    store, root = Stored(leaves), judge_root(leaves)
    assert frontier(leaves).root() == root == merkle.span_root(store, 0, size)
    leaf, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = merkle.inclusion_proof(store, leaf, size)
    assert path == judge_path(leaf, leaves)
    assert merkle.verify_inclusion(merkle.leaf_hash(leaves[leaf]), leaf, size, path, root)
    proof = merkle.consistency_proof(store, old, size)
    assert proof == judge_subproof(old, leaves, True)
    assert merkle.verify_consistency(old, size, proof, judge_root(leaves[:old]), root)


def test_random_trees_equal_a_second_judge():
    random = Random(6962)
    assert [found for found in (differs(random) for _ in range(300)) if found] == []


def test_random_trees_equal_those_of_pymerkle():
    pytest.importorskip(
        "pymerkle", reason="another implementation, by hand: pip install pymerkle (GPL, not in our extras)"
    )
    random = Random(9162)
    assert [found for found in (differs_from_pymerkle(random) for _ in range(100)) if found] == []


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("judge", ["a second judge", "pymerkle"])
def test_random_trees_in_numbers(judge, evidence):
    if judge == "pymerkle":
        pytest.importorskip("pymerkle")
    random, count = Random(162), int(os.environ.get("EMP_TREES", 100_000))
    one = differs if judge == "a second judge" else differs_from_pymerkle
    found = [text for text in (one(random) for _ in range(count)) if text]
    evidence(f"random Merkle trees against {judge}", n=count, seed=162, different=len(found))
    assert found == []


@given(st.integers(1, 70), st.data())
def test_a_bent_inclusion_proof_never_holds(size, data):
    """The corruptions of Certificate Transparency's own tests: index, size, leaf, root, garbage, bits, components."""
    leaves = [bytes([i]) for i in range(size)]
    leaf = data.draw(st.integers(0, size - 1))
    root, path, own = judge_root(leaves), judge_path(leaf, leaves), merkle.leaf_hash(leaves[leaf])
    bent = [
        (own, leaf - 1, size, path, root),
        (own, leaf + 1, size, path, root),
        (own, leaf ^ 2, size, path, root),
        (own, leaf, size * 2, path, root),
        (own, leaf, size // 2, path, root),
        (b"wrong", leaf, size, path, root),
        (own, leaf, size, path, merkle.EMPTY_ROOT),
        (own, leaf, size, [*path, b""], root),
        (own, leaf, size, [*path, root], root),
        (own, leaf, size, [b"", *path], root),
        (own, leaf, size, [root, *path], root),
        *((own, leaf, size, [*path[:i], bytes([path[i][0] ^ 8]) + path[i][1:], *path[i + 1 :]], root) for i in range(len(path))),
        *((own, leaf, size, path[:-1], root) for _ in path[:1]),
        *((own, leaf, size, [path[0], root, *path[1:]], root) for _ in path[:1]),
    ]  # fmt: skip
    assert [case for case in bent if merkle.verify_inclusion(*case)] == []


@given(st.integers(2, 70), st.data())
def test_a_bent_consistency_proof_never_holds(new, data):
    leaves = [bytes([i]) for i in range(new)]
    old = data.draw(st.integers(1, new - 1))
    a, b = judge_root(leaves[:old]), judge_root(leaves)
    path = judge_subproof(old, leaves, True)
    other = judge_root([b"another history", *leaves[1:]])
    bent = [
        (old, new, path, b, a),
        (old, new, path, a, other),
        (old, new, path, other, b),
        (old - 1, new, path, a, b),
        (old + 1, new, path, a, b),
        (old, new * 2, path, a, b),
        (old, new, [*path, a], a, b),
        (old, new, [a, *path], a, b),
        (old, new, path[:-1], a, b),
        (new, old, path, a, b),
        (0, new, path, a, b),
        *((old, new, [*path[:i], bytes([path[i][0] ^ 8]) + path[i][1:], *path[i + 1 :]], a, b) for i in range(len(path))),
    ]  # fmt: skip
    assert [case for case in bent if merkle.verify_consistency(*case)] == []


def test_appending_says_which_nodes_became_complete():
    tree, nodes = merkle.Frontier(), []
    for leaf in LEAVES:
        nodes += tree.append(merkle.leaf_hash(leaf), level=2)
    assert [(level, position) for level, position, _ in nodes] == [(2, 0), (2, 1), (3, 0)]
    assert all(digest == Stored(LEAVES)(level, position) for level, position, digest in nodes)


def test_a_copy_of_a_frontier_grows_alone():
    tree = frontier(LEAVES[:5])
    copy = tree.copy()
    copy.append(merkle.leaf_hash(LEAVES[5]))
    assert (tree.root().hex(), copy.root().hex()) == (ROOTS[5], ROOTS[6])


@pytest.mark.parametrize("case", [(8, 8), (-1, 8), (0, 0)])
def test_a_leaf_that_is_not_there_has_no_proof(case):
    with pytest.raises(ConfigError, match="not in a tree"):
        merkle.inclusion_proof(Stored(LEAVES), *case)


@pytest.mark.parametrize("case", [(0, 8), (8, 7)])
def test_a_tree_that_is_no_beginning_has_no_proof(case):
    with pytest.raises(ConfigError, match="cannot be the beginning"):
        merkle.consistency_proof(Stored(LEAVES), *case)
