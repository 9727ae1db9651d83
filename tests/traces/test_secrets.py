from __future__ import annotations

import orjson
import pytest

from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration
from rejoule.traces.secrets import api_key, hidden, is_secret, learn_headers, masked, revealed


@pytest.mark.parametrize("name", ["hf_token", "api-key", "X-Api-Key", "Authorization", "Ocp-Apim-Subscription-Key",
                                  "Helicone-Auth", "password", "aws_secret", "cookie"])  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    """Options and headers that hold keys are known by what their names end in."""
    assert is_secret(name)


@pytest.mark.parametrize("name", ["max_num_batched_tokens", "tokenizer", "kv_cache_dtype", "author", "keyword"])
def test_other_names_are_none(name: str) -> None:
    """Names that only resemble them are left alone."""
    assert not is_secret(name)


def test_a_configuration_never_holds_a_key() -> None:
    """Keys among options, also inside JSON ones, are masks in the configuration, and known to this process alone."""
    options = {
        "hf_token": "hf_CANARY1",
        "speculative_config": {"model": "m", "token": "CANARY2"},
        "tensor_parallel_size": 2,
    }
    held = Configuration(engine="vllm", options=options)
    assert b"CANARY" not in orjson.dumps(held)
    assert held.options["tensor_parallel_size"] == 2
    assert revealed(held.options) == options
    assert Configuration(engine="vllm", options=held.options) == held
    assert Configuration(engine="vllm", options=options | {"hf_token": "hf_CANARY9"}) != held
    assert hidden("bad token hf_CANARY1") == "bad token [key]"


def test_a_mask_of_another_process_stays() -> None:
    """What a stored mask stood for is not known any more."""
    assert revealed({"hf_token": "***deadbeef"}) == {"hf_token": "***deadbeef"}
    assert masked({"hf_token": "***deadbeef"}) == {"hf_token": "***deadbeef"}


def test_headers_are_learnt() -> None:
    """A key that a request carried is taken out of what a server says."""
    learn_headers([("Authorization", "Bearer sk-CANARYheader"), ("Accept", "text/event-stream")])
    assert hidden("no such key: sk-CANARYheader in text/event-stream") == "no such key: [key] in text/event-stream"


def test_a_key_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line end after a key is not part of it, and a key that no header can carry is named."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdef\n")
    assert api_key() == "sk-abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-é")
    with pytest.raises(RejouleError, match="OPENAI_API_KEY"):
        api_key()
