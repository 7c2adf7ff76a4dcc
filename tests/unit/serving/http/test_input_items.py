import pytest

from delia_ray.serving.http.errors import ApiError
from delia_ray.serving.http.input_items import check_input_items

TALK = [
    {"role": "user", "content": "Hi"},
    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
    {"type": "reasoning", "id": "a", "summary": []},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]},
    {"type": "function_call", "call_id": "b", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "b", "output": "nothing"},
]


@pytest.mark.parametrize("given", [TALK, [], "Hi", 5, None], ids=["a talk", "nothing", "a text", "a number", "null"])
def test_what_becomes_messages_passes_and_what_is_no_list_is_for_vllm_to_refuse(given: object):
    check_input_items({"input": given})


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"type": "computer_call_output"}, r"input\[1\]: found an item of type computer_call_output; send items of type message, "),
        ({"type": ["message"]}, r"input\[1\]: found an item of type \['message'\]"),
        ({"content": "Hi"}, r"input\[1\]: the message has no role"),
        ({"role": "assistant", "content": []}, r"input\[1\]: what the assistant said does not begin with a text"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, "does not begin with a text"),
        (
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": ""}]},
            "what the function gave is no text",
        ),
    ],
    ids=["another item", "a type that is a list", "nobody", "nothing said", "a refusal", "parts"],
)
def test_an_item_of_which_no_message_can_be_made_is_refused(item: object, said: str):
    with pytest.raises(ApiError, match=said) as found:
        check_input_items({"input": [TALK[0], item]})
    assert found.value.status == 400
