"""Where a source is, who asks, and what is kept out of sight."""

import pytest

from ur10e_act.blob.azcopy import Location, find_credentials, parse_location, redact, stall_timeout_s
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
        ("", NAME, "no container"),
        ("Con/a", NAME, "no container"),
        ("con/a", {}, "AZURE_STORAGE_ACCOUNT_NAME is not set"),
        ("con/../x", NAME, r"'\.\.'"),
        ("con/a\nb", NAME, "control"),
        (PUBLIC + "/con/a?sv=1&sig=secret", {}, "AZURE_STORAGE_SAS_TOKEN"),
        ("https://other.blob.core.windows.net/con/a", NAME, "account other"),
        ("https://example.com/con/a", NAME, "no Azure Blob host"),
        ("con/a", {**NAME, "AZURE_STORAGE_BLOB_ENDPOINT": "acc.blob"}, "no URL"),
    ],
)
def test_locations_that_are_refused(text, environ, message):
    with pytest.raises(UserError, match=message) as refused:
        parse_location(text, environ)
    assert "secret" not in str(refused.value)


def test_a_url_is_encoded_so_that_azcopy_can_parse_it():
    location = Location(PUBLIC, "acc", "con", "a %#?ü")
    assert location.url("b c") == PUBLIC + "/con/a%20%25%23%3F%C3%BC/b%20c"


def test_a_sas_goes_before_the_key_before_a_login():
    every = {
        "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=x",
        "AZURE_STORAGE_ACCOUNT_KEY": "a2V5",
        "AZCOPY_AUTO_LOGIN_TYPE": "MSI",
    }
    kinds = []
    while every:
        kinds.append(find_credentials(every).kind)
        del every[next(iter(every))]
    assert kinds == ["sas", "key", "login"]
    assert find_credentials(NAME) is None


def test_secrets_are_taken_out():
    environ = {"AZURE_STORAGE_ACCOUNT_KEY": "QUJDREVGRw==", "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=a%2Bb"}
    text = 'x?sv=1&sig=a%2Bb&se=2 "sig=Q+/=" SIG%3Dzz key QUJDREVGRw=='
    clean = redact(text, environ)
    for secret in ("a%2Bb", "Q+/=", "zz", "QUJDREVGRw"):
        assert secret not in clean
    assert "&se=2" in clean


@pytest.mark.parametrize("value", ["59", "0", "-1", "1.5", "x"])
def test_a_stall_timeout_below_a_minute_is_refused(value):
    with pytest.raises(UserError, match="STALL_SECONDS"):
        stall_timeout_s({"STALL_SECONDS": value})
    assert stall_timeout_s({}) == 300
