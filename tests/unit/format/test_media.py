from __future__ import annotations

import math
import pickle

import pytest

from streamkit.errors import FormatError, SchemaError
from streamkit.format.json_leaf import decode_json, encode_json
from streamkit.format.media import Media, decode_media


@pytest.mark.parametrize("data", [b"RIFF", bytearray(b"RIFF"), memoryview(b"RIFF")])
def test_media_keeps_bytes_and_kind(data):
    media = Media(data, "audio/wav")
    assert media.data == b"RIFF"
    assert type(media.data) is bytes
    assert media == Media(b"RIFF", "audio/wav") != Media(b"RIFF", "audio/flac")
    assert pickle.loads(pickle.dumps(media)) == media
    assert repr(Media(b"x" * 10_000, "video/mp4")) == "<Media 'video/mp4': 10,000 bytes>"


@pytest.mark.parametrize("kind", ["", None, 3])
def test_media_kind_is_a_name(kind):
    with pytest.raises(ValueError, match=r"kind=.*audio/wav"):
        Media(b"", kind)


def test_media_data_is_bytes():
    with pytest.raises(TypeError, match="not str"):
        Media("RIFF", "audio/wav")


def test_decode_media_uses_the_decoder_of_its_kind():
    decoders = {"audio/wav": len}
    assert decode_media(b"abc", "audio/wav", decoders) == 3
    assert decode_media(b"abc", "video/mp4", decoders) == Media(b"abc", "video/mp4")
    assert decode_media(b"abc", "audio/wav", {}) == Media(b"abc", "audio/wav")


def test_decode_media_names_the_kind_when_the_decoder_fails():
    with pytest.raises(FormatError, match=r"'audio/wav'.*3 bytes.*ZeroDivisionError") as caught:
        decode_media(b"abc", "audio/wav", {"audio/wav": lambda data: 1 // 0})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**80),
        0.1,
        1e300,
        "",
        "naïve \u2603 \U0001f600",
        [],
        {},
        {"a": [{"": None}]},
    ],
)
def test_json_comes_back(value):
    data = encode_json(value)
    assert decode_json(data) == value
    assert type(decode_json(data)) is type(value)


def test_json_keeps_nan_and_infinities_and_makes_lists_of_tuples():
    value = decode_json(encode_json({"x": (math.nan, math.inf, -math.inf)}))
    assert isinstance(value["x"], list)
    assert math.isnan(value["x"][0])
    assert value["x"][1:] == [math.inf, -math.inf]


def test_json_is_compact_utf8():
    assert encode_json({"é": [1, 2]}) == '{"é":[1,2]}'.encode()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"value\['a'\]\[1\] is of type builtins.set"),
        (b"x", "value is of type builtins.bytes"),
        ({"a": {1: 2}}, r"value\['a'\] has the key 1 of type int"),
        ("\ud800", "surrogates"),
    ],
)
def test_json_refuses_what_it_cannot_hold(value, message):
    with pytest.raises(SchemaError, match=message):
        encode_json(value)


def test_json_refuses_a_value_that_holds_itself():
    value: list[object] = []
    value.append(value)
    with pytest.raises(SchemaError, match="holds itself"):
        encode_json(value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[1,]", b"nope", '"é"'.encode("utf-16"), b"[" * 100_000]
)
def test_broken_json_is_a_format_error(data):
    with pytest.raises(FormatError, match=rf"{len(data):,} bytes"):
        decode_json(data)
