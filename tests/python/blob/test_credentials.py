"""Which login is taken, and what is kept out of sight."""

from ur10e_act.blob.credentials import find_credentials, redact

NAME = {"AZURE_STORAGE_ACCOUNT_NAME": "acc"}


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
