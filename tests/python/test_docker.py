"""docker/, which works inside an image that is being built. tests/scripts/test_images.bats builds images."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "docker"))

import check_image  # noqa: E402
import choose_packages  # noqa: E402
import download  # noqa: E402

LOCK = """\
av==17.1.0 ; python_full_version < '3.11' \\
    --hash=sha256:aa
av==18.1.0 ; python_full_version >= '3.11' \\
    --hash=sha256:bb
    # via lerobot
numpy==2.4.6 \\
    --hash=sha256:cc
nvidia-nccl-cu13==2.30.7 ; sys_platform == 'linux' \\
    --hash=sha256:dd
packaging==26.3 \\
    --hash=sha256:ee
torch==2.14.1 \\
    --hash=sha256:ff
torchvision==0.29.1 \\
    --hash=sha256:00
triton==3.8.0 \\
    --hash=sha256:11
"""


@pytest.fixture
def base(monkeypatch):
    """Sets what the base image has installed."""

    def has(**versions):
        monkeypatch.setattr(choose_packages, "installed", lambda name: versions.get(name.replace("-", "_")))

    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return has


def test_every_package_of_the_real_lock_is_found():
    text = (REPO / "python/requirements.lock").read_text()
    lock = choose_packages.parse_lock(text)
    assert sum(len(entries) for entries in lock.values()) == sum(
        "==" in line for line in text.splitlines() if line[0].isalnum()
    )
    assert all("--hash=sha256:" in entry for entries in lock.values() for entry in entries)
    assert {"torch", "lerobot", "av", "pyarrow"} <= lock.keys()


def test_torch_and_what_it_needs_stay_the_bases(base, tmp_path):
    base(
        torch="2.14.0a0+4fdf77b940.nv26.8.63802676",
        torchvision="0.29.0a0",
        numpy="2.1.0",
        packaging="25.0",
        av="12.0",
    )
    (tmp_path / "lock").write_text(LOCK)
    choose_packages.main(tmp_path / "lock", tmp_path)
    requirements = (tmp_path / "requirements.txt").read_text()
    # The base's av is of no interest; NCCL and Triton are the base's own, as Python packages or not.
    assert choose_packages.parse_lock(requirements).keys() == {"av", "packaging"}
    assert requirements.count("--hash=sha256:") == 3
    assert (tmp_path / "constraints.txt").read_text().splitlines() == [
        "numpy==2.1.0",
        "torch==2.14.0a0+4fdf77b940.nv26.8.63802676",
        "torchvision==0.29.0a0",
        "av==17.1.0 ; python_full_version < '3.11'",
        "av==18.1.0 ; python_full_version >= '3.11'",
        "packaging==26.3",
    ]


def test_what_the_base_pins_and_has_is_kept(base, monkeypatch, tmp_path):
    pins = tmp_path / "constraint.txt"
    pins.write_text("# NGC\nPackaging==25.0\nAV[x] @ file:///wheels/av.whl\nnot_there==1\n")
    monkeypatch.setenv("PIP_CONSTRAINT", f"{pins} {tmp_path}/absent.txt")
    base(torch="2", torchvision="0.2", packaging="25.0")
    wanted, kept = choose_packages.choose(choose_packages.parse_lock(LOCK))
    assert kept == {"packaging": "25.0", "torch": "2", "torchvision": "0.2"}
    # Pinned, but not installed: the lock's, and pip has the last word.
    assert [entry.split("=")[0] for entry in wanted] == ["av", "av", "numpy"]


def test_a_base_without_torch_is_refused(base):
    base(torch="2")
    with pytest.raises(SystemExit, match="the base image has no torchvision: choose another BASE_IMAGE"):
        choose_packages.choose(choose_packages.parse_lock(LOCK))


def test_the_check_passes_as_recorded_and_names_every_difference(tmp_path, capsys):
    record = tmp_path / "base.json"
    assert check_image.main("record", record) == 0
    assert check_image.main("verify", record) == 0
    recorded = json.loads(record.read_text())
    recorded["torch"] |= {"version": "2.14.0a0+nv26.08", "cuda": "13.4", "files": "0" * 64}
    record.write_text(json.dumps(recorded))
    capsys.readouterr()
    assert check_image.main("verify", record) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("check_image.py: torch: version was 2.14.0a0+nv26.08 in the base and is ")
    assert "torch: cuda was 13.4" in lines[1]


def test_another_build_of_the_same_version_has_another_fingerprint(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libtorch.so").write_bytes(b"one")
    before = check_image.fingerprint(tmp_path)
    (tmp_path / "lib/made.pyc").write_bytes(b"")
    assert check_image.fingerprint(tmp_path) == before
    (tmp_path / "lib/libtorch.so").write_bytes(b"other")
    assert check_image.fingerprint(tmp_path) != before


def test_packages_that_do_not_fit_each_other_are_named(tmp_path, monkeypatch):
    for name, version, requires in (("aaa", "1.0", "bbb>=2"), ("bbb", "1.5", "missing>=1")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert check_image.conflicts(str(tmp_path)) == ["aaa 1.0 needs bbb>=2, and there is 1.5"]
    assert "aaa 1.0" not in " ".join(check_image.conflicts("/elsewhere"))


def test_a_download_is_the_pinned_file_or_nothing(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    for url, sha256, why in (
        (source.as_uri(), "0" * 64, "it is another file"),
        (f"{source.as_uri()}.absent", digest, "give the URL of a mirror"),
        ("no url", digest, "give the URL of a mirror"),
        (source.as_uri(), "", "is not a sha256"),
    ):
        with pytest.raises(SystemExit, match=why):
            download.download(url, sha256, target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    download.download(source.as_uri(), digest, target)
    assert target.read_bytes() == b"weights"
