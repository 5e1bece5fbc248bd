"""Where a source is."""

import pytest

from ur10e_act.blob.location import Location, parse_location
from ur10e_act.errors import UserError

NAME = {"AZURE_STORAGE_ACCOUNT_NAME": "acc"}
LOCAL = {**NAME, "AZURE_STORAGE_BLOB_ENDPOINT": "http://127.0.0.1:1/acc"}
PUBLIC = "https://acc.blob.core.windows.net"


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("con/a/b/", NAME, Location(PUBLIC, "acc", "con", "a/b")),
        ("con//a b%20#?", NAME, Location(PUBLIC, "acc", "con", "a b%20#?")),
        ("con/", NAME, Location(PUBLIC, "acc", "con", "")),
        (PUBLIC + "/con/a%20b", {}, Location(PUBLIC, "acc", "con", "a b")),
        (PUBLIC + "/con/a", NAME, Location(PUBLIC, "acc", "con", "a")),
        ("https://acc.blob.core.chinacloudapi.cn/con/a", {},
         Location("https://acc.blob.core.chinacloudapi.cn", "acc", "con", "a")),
        ("azure://acc/con/a", {}, Location(PUBLIC, "acc", "con", "a")),
        ("azure://acc/con/a", LOCAL, Location("http://127.0.0.1:1/acc", "acc", "con", "a")),
        ("http://127.0.0.1:1/acc/con/a", LOCAL, Location("http://127.0.0.1:1/acc", "acc", "con", "a")),
        ("con/a", LOCAL, Location("http://127.0.0.1:1/acc", "acc", "con", "a")),
    ],
)  # fmt: skip
def test_locations(text, environ, expected):
    assert parse_location(text, environ) == expected


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("con", NAME, "no prefix"),
        ("", NAME, "not a container name"),
        ("Con/a", NAME, "not a container name"),
        ("con/a", {}, "AZURE_STORAGE_ACCOUNT_NAME is not set"),
        ("con/../x", NAME, r"'\.\.'"),
        ("con/a\nb", NAME, "control"),
        (PUBLIC + "/con/a?sv=1&sig=secret", {}, "AZURE_STORAGE_SAS_TOKEN"),
        ("https://other.blob.core.windows.net/con/a", NAME, "account other"),
        ("https://example.com/con/a", NAME, "not an Azure Blob host"),
        ("con/a", {**NAME, "AZURE_STORAGE_BLOB_ENDPOINT": "acc.blob"}, "not a URL"),
    ],
)
def test_locations_that_are_refused(text, environ, message):
    with pytest.raises(UserError, match=message) as refused:
        parse_location(text, environ)
    assert "secret" not in str(refused.value)


def test_a_url_is_encoded_so_that_azcopy_can_parse_it():
    location = Location(PUBLIC, "acc", "con", "a %#?ü")
    assert location.url("b c") == PUBLIC + "/con/a%20%25%23%3F%C3%BC/b%20c"
