"""Checks that a worker of a cluster runs."""

import pytest

from nhcatalog.errors import UserError
from nhdata.workers.host import check_s3_settings, s3_settings


@pytest.mark.parametrize("ours", ["AWS_REGION", "AWS_DEFAULT_REGION"])
@pytest.mark.parametrize("theirs", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_settings_of_s3_have_the_names_that_the_user_set(
    ours: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv(ours, "eu-west-1")
    wanted = s3_settings()
    assert (ours, "eu-west-1") in wanted
    monkeypatch.delenv(ours)
    with pytest.raises(UserError, match=f"^{ours} missing: start the workers"):
        check_s3_settings(wanted)
    monkeypatch.setenv(theirs, "eu-west-1")
    check_s3_settings(wanted)
    monkeypatch.setenv(theirs, "us-east-1")
    with pytest.raises(UserError, match=f"^{theirs} is us-east-1, but {ours} of the client is eu-west-1: "):
        check_s3_settings(wanted)
