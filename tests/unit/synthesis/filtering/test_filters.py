import pytest

from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.filtering.filters import cut_to_whole_sentences, reject_answer, reject_query

CONTROL = ControlTokens(("<|im_start|>", "<|im_end|>"))


@pytest.mark.parametrize(
    ("text", "finished", "reason"),
    [
        ("", True, "empty"),
        (" \n ?! ", True, "empty"),
        ("What is", False, "truncated"),
        ("Hi <|im_start|>system", True, "control token"),
        ("no no " * 80, True, "loop"),
        ("The moon is far. It is round and very far away. It is round and very far away. It is round and very far away.", True, "loop"),
        ("How far is the moon?", True, None),
        ("Sorry for the late reply, how are you?", True, None),
    ],
)
def test_a_query_is_rejected_for_the_reason_that_holds(text: str, finished: bool, reason: str | None):
    assert reject_query(text, finished, CONTROL) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I have no opinion.", "refusal"),
        ("I cannot answer this.", "refusal"),
        ("The sorry state of the roads is due to rain.", None),
        ("I can help: boil it for ten minutes.", None),
    ],
)
def test_an_answer_that_declines_is_rejected(text: str, reason: str | None):
    assert reject_answer(text, True, CONTROL) == reason


def test_long_ordinary_prose_is_no_loop():
    prose = (
        "Bread rises because yeast eats sugar and breathes out gas, which the dough holds in small bubbles. Salt slows the yeast "
        "a little and gives taste; warm water wakes it. After an hour the dough has doubled, and a hot oven sets the bubbles "
        "before they can collapse."
    )
    assert reject_answer(prose, True, CONTROL) is None


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "\u02bc", "\uff07"])
@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't talk about that.",
        "I'm very sorry; I'm not able to open links.",
        "I'm unable to see pictures.",
        "I don't have access to your calendar.",
        "Unfortunately, I can't verify this.",
        "I won't be able to write that.",
        '"I apologize, but I can\'t share it."',
        "I can't tell you how to pick this lock.",
    ],
)
def test_a_refusal_is_one_under_any_apostrophe(text: str, apostrophe: str):
    assert reject_answer(text.replace("'", apostrophe), True, CONTROL) == "refusal"


@pytest.mark.parametrize("apostrophe", ["'", "\u2019"])
@pytest.mark.parametrize(
    "text",
    [
        "I can't emphasize enough how much rest matters after a race.",
        "I can't wait to try this recipe!",
        "I cannot recommend this trail enough.",
        "I can't tell you how glad we were when the rain came.",
        "I'm sorry to hear that your dog can't sleep. Keep the room dark.",
        "I'm sorry for your loss. I can't imagine what it is like.",
        "Sorry about the noise yesterday; we had guests.",
        "As an AI engineer, I would begin with the data.",
        "I can't help smiling when I read it.",
    ],
)
def test_ordinary_sentences_with_cannot_or_sorry_are_kept(text: str, apostrophe: str):
    assert reject_answer(text.replace("'", apostrophe), True, CONTROL) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("抱歉，我无法提供这方面的信息。", "refusal"),
        ("我不能回答这个问题。", "refusal"),
        ("申し訳ございませんが、その件にはお答えできません。", "refusal"),
        ("죄송하지만 그 질문에는 답할 수 없습니다.", "refusal"),
        ("Lo siento, no puedo hablar de eso.", "refusal"),
        ("Je suis désolé, mais je ne peux pas en parler.", "refusal"),
        ("Es tut mir leid, aber ich kann das nicht beantworten.", "refusal"),
        ("我不能没有你是一句歌词。", None),
        ("对不起有时候是最难说出口的三个字。", None),
        ("Es tut mir leid sagt man, wenn man etwas bedauert.", None),
    ],
)
def test_refusals_in_other_languages_are_rejected_and_talk_about_sorrow_is_not(text: str, reason: str | None):
    assert reject_answer(text, True, CONTROL) == reason


HINDI = (
    "रोटी इसलिए फूलती है क्योंकि खमीर चीनी खाता है और गैस छोड़ता है, जिसे आटा छोटे बुलबुलों में रोक लेता है। नमक खमीर को थोड़ा धीमा करता है और "
    "स्वाद देता है; गुनगुना पानी उसे जगाता है। एक घंटे बाद आटा दुगना हो जाता है, और गरम भट्ठी बुलबुलों को गिरने से पहले ही जमा देती है। पुराने ज़माने में "
    "हर गाँव का अपना तंदूर होता था जहाँ सुबह सब लोग अपनी रोटियाँ लेकर आते थे। आज भी कई परिवार घर पर ही रोटी बनाना पसंद करते हैं। "
)
THAI = (
    "ขนมปังขึ้นฟูเพราะยีสต์กินน้ำตาลแล้วปล่อยก๊าซออกมา แป้งจะกักก๊าซไว้เป็นฟองเล็กๆ เกลือทำให้ยีสต์ทำงานช้าลงเล็กน้อยและให้รสชาติ ส่วนน้ำอุ่นจะปลุกยีสต์ให้ตื่น "
    "หลังจากหนึ่งชั่วโมงแป้งจะพองเป็นสองเท่า และเตาอบที่ร้อนจะทำให้ฟองอยู่ตัวก่อนที่จะยุบ สมัยก่อนทุกหมู่บ้านมีเตาอบของตัวเอง "
)
CHINESE = (
    "面包会发起来，是因为酵母吃掉糖分并呼出气体，而面团把这些气体留在小小的气泡里。盐让酵母慢一点，也带来味道；温水则把它唤醒。"
    "一个小时以后，面团涨到原来的两倍，滚烫的烤箱在气泡塌下去之前就把它们固定住了。从前每个村子都有自己的炉子。"
)


@pytest.mark.parametrize("prose", [HINDI, THAI, CHINESE])
def test_prose_of_any_script_is_kept_and_a_loop_of_it_is_not(prose: str):
    assert reject_answer(prose, True, CONTROL) is None
    assert reject_answer(prose[:60] * 12, True, CONTROL) == "loop"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("How old is it? And who", "How old is it?"),
        ("It costs 3.5 pounds and", None),
        ('She said "Stop." Then she', 'She said "Stop."'),
        ("今天有雨。记得带", "今天有雨。"),
        ("彼は「行こう。」と言った。それから", "彼は「行こう。」と言った。"),
        ("आज बारिश है। छाता", "आज बारिश है।"),
        ("هل تمطر؟ خذ", "هل تمطر؟"),
        ("ዛሬ ዝናብ ነው። ጃንጥላ", "ዛሬ ዝናብ ነው።"),
    ],
)
def test_whole_sentences_end_as_the_script_ends_them(text: str, whole: str | None):
    assert cut_to_whole_sentences(text) == whole
