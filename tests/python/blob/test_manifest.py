"""Names, manifests and what counts as intact."""

import os

import pytest

from ur10e_act.blob.manifest import (
    Entry,
    Manifest,
    hash_files,
    intact,
    list_files,
    load_manifest,
    local_names,
    manifest_of,
)
from ur10e_act.errors import UserError

MD5_OF_A = "0cc175b9c0f1b6a831c399e269772661"


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("a")
    (tmp_path / "sub" / "b").write_text("b")
    return tmp_path


def test_names_are_kept_and_markers_left_out():
    names = ["a b", "a%20b", "ü", "sub//x", "./y", "folder/", ""]
    assert local_names(names, "here") == {
        "a b": "a b",
        "a%20b": "a%20b",
        "ü": "ü",
        "sub/x": "sub//x",
        "y": "./y",
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../x"], "outside"),
        (["a/../../x"], "outside"),
        (["a/.."], "outside"),
        (["a", "./a"], "would be one file"),
        (["a/b/c", "a/b"], "both a file and the folder"),
        (["a\nb"], "control"),
        (["."], "is not a name"),
        (["x" * 207], "206 bytes"),
        (["ü" * 104], "206 bytes"),
    ],
)
def test_names_that_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        local_names(names, "here")


def test_a_manifest_comes_back_as_it_was_and_in_the_same_bytes():
    files = {"b": Entry(1, MD5_OF_A, "then", (1, 2, 3)), "a": Entry(0)}
    manifest = Manifest(files, {"last": "b"}, "there", MD5_OF_A)
    assert load_manifest(manifest.dumps(), "here") == manifest
    assert (
        Manifest(dict(reversed(files.items())), {"last": "b"}, "there", MD5_OF_A).dumps() == manifest.dumps()
    )


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../../x", "a/../../x"])
def test_a_link_that_leads_out_is_refused(target):
    content = Manifest({}, {"link": target}).dumps()
    with pytest.raises(UserError, match="leads out"):
        load_manifest(content, "here")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"version": 2, "files": {}, "links": {}}', b"\xff"])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(UserError, match="is not a manifest"):
        load_manifest(text, "here")


def test_walk_keeps_links_inside_and_follows_links_outside(tree, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "file").write_text("o")
    (tree / "in").symlink_to(tree / "sub")
    (tree / "sub" / "up").symlink_to("../a")
    (tree / "out").symlink_to(outside)
    found = manifest_of(tree)
    assert set(found.files) == {"a", "sub/b", "out/file"}
    assert found.links == {"in": "sub", "sub/up": "../a"}
    assert list_files(tree) == {"a", "sub/b", "in", "sub/up", "out"}


def test_intact_hashes_only_what_has_changed_since(tree):
    wanted = {"a": Entry(1, MD5_OF_A)}
    good = intact(tree, wanted, Manifest(), same_source=True)
    assert good["a"].md5 == MD5_OF_A
    record = Manifest(good)
    # With the recorded times a file is taken at its word, unless it is to be verified.
    lie = Manifest({"a": Entry(1, "0" * 32, "", good["a"].stat)})
    wanted_lie = {"a": Entry(1, "0" * 32)}
    assert intact(tree, wanted_lie, lie, same_source=True)
    assert not intact(tree, wanted_lie, lie, same_source=True, verify=True)
    times = os.stat(tree / "a")
    (tree / "a").write_text("x")
    os.utime(tree / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not intact(tree, wanted, record, same_source=True)


def test_without_md5_the_version_and_the_recorded_bytes_count(tree):
    record = Manifest({"a": Entry(1, MD5_OF_A, "Monday")})
    assert intact(tree, {"a": Entry(1, None, "Monday")}, record, same_source=True)
    assert not intact(tree, {"a": Entry(1, None, "Tuesday")}, record, same_source=True)
    assert not intact(tree, {"a": Entry(1, None, "Monday")}, record, same_source=False)
    assert not intact(tree, {"a": Entry(1, None, "Monday")}, Manifest(), same_source=True)
    (tree / "a").write_text("x")
    assert not intact(tree, {"a": Entry(1, None, "Monday")}, record, same_source=True)


def test_a_link_is_no_file_unless_it_is_to_be_followed(tree):
    (tree / "link").symlink_to("a")
    assert hash_files(tree, ["link", "sub", "none"]) == {}
    assert hash_files(tree, ["link"], follow_links=True)["link"].md5 == MD5_OF_A
