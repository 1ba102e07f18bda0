"""What users write is read as data, once, and never grows."""

from pathlib import Path

import pytest

from kmdist.cli.specs import read_spec
from kmdist.cluster import read_profile
from kmdist.errors import UsageError
from kmdist.recipes.quantize.options import QuantizeOptions
from kmdist.yaml_files import MAX_ALIASES, MAX_BYTES, read_mapping

LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k: 3\nseed: 1\nk: 4\n", "key 'k' is given twice"),
        ("profiles: {a: {timeout: 1, timeout: 2}}\n", "key 'timeout' is given twice"),
        (LAUGHS, f"more than {MAX_ALIASES} aliases"),
        ("a: &a [*a]\n", "stands for what contains it"),
        ("[" * 100_000, "nested too deeply"),
        ("k: " + "9" * 5000, "not valid YAML"),
        ("k: 0x" + "f" * 5000, "a whole number of 20,000 bits"),
        ("k: " + ":".join(["59"] * 3000), "a whole number of"),
        ("? [a, b]\n: 3", "a key is no word"),
        ("? {a: b}\n: 3", "a key is no word"),
        ("k: !!bool perhaps", "not what its tag says"),
        ("k: !!timestamp perhaps", "not what its tag says"),
        ("k: !!python/object/apply:os.abort []", "not valid YAML"),
        ("k: \0", "not valid YAML"),
        ("k: 2024-13-45", "not valid YAML"),
        ("# " + "x" * MAX_BYTES, "larger than 256 kB"),
    ],
)
def test_what_no_spec_needs_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"job spec .*file.yaml") as raised:
        read_mapping(path, "job spec")
    assert said in str(raised.value)
    with pytest.raises(UsageError, match=r"cluster file .*file.yaml"):
        read_profile(str(path))


def test_a_few_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("base: &base {timeout: 3}\nother: {<<: *base, scale: 2}\n")
    assert read_mapping(path, "x")["other"] == {"timeout": 3, "scale": 2}


def test_overrides_may_be_lists(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("k: 16\npsnr: 30\n")
    keys = read_spec(str(path), ["k=[2, 8]", "psnr=null", "seed=7"])
    options = QuantizeOptions.of(keys)
    assert (options.ks, options.psnr, options.seed) == ((2, 8), None, 7)
    with pytest.raises(UsageError, match="not a list as in YAML"):
        read_spec(str(path), ["k=[2, 8"])
