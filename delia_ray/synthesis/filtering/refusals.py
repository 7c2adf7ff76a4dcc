"""Detection of refusals: answers whose beginning declines to answer."""

import regex

_MAX_CHARACTERS = 400
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\uff07\u00b4`", "'"))
_MUCH = r"(?:how (?:much|happy|glad|grateful|excited|important|often|many|good|great|proud|sorry)\b|[^.!?\n]{0,80}\benough\b)"
_IDIOMS = (
    rf"(?:stress|emphasi[sz]e|over(?:state|emphasi[sz]e)|understate|underscore|wait\b|imagine|believe|fathom|help (?:but|it|\w+ing)\b"
    rf"|agree more|begin to|deny|complain|lie\b|stand\b|thank|blame|be (?:more|any)\b|think of (?:any|a (?:better|more)|anything)"
    rf"|say (?:enough|it better)"
    rf"|(?:tell you|describe|express|say|put into words|convey) {_MUCH}|get enough|(?:recommend|praise|thank) {_MUCH})"
)
"""Continuations of "I cannot" that decline nothing: "I cannot stress enough", "I can't wait"."""
_CANNOT = rf"i (?:just |really |simply |currently |personally )?(?:cannot|can not|can't|could not|couldn't)\b(?! {_IDIOMS})"
_UNABLE = (
    r"i(?:'m| am) (?:currently |just |sorry, but )?(?:unable|not (?:able|allowed|permitted|comfortable|programmed|designed))\b"
    r"|i(?:'ll| will)? (?:not be able to|have to decline|must decline|decline to|refuse to)\b"
    r"|i (?:won't|will not) (?:be able to|help|assist|provide|answer|write|create|generate|comply|do that)\b"
    r"|i (?:don't|do not) have (?:access|the (?:ability|capability|capacity|means))\b"
)
_MACHINE = (
    r"as an? (?:(?:large |text-based )?language model|virtual assistant|(?:ai|artificial intelligence)(?! (?:researcher|engineer|developer"
    r"|scientist|student|compan|expert|enthusiast|professional|practitioner|product|start-?up|consultant|ethicist)))\b"
    r"[^.\n]{0,80}?\b(?:i|my|me)\b"
)
_APOLOGY = r"(?:i(?:'m| am) (?:\w+ )?sorry|(?:so |very )?sorry|(?:my )?apologies|i (?:\w+ )?apologi[sz]e)\b"
_SORRY = rf"{_APOLOGY}(?:[,.;:]? but\b|[^\n]{{0,160}}?\b(?:{_CANNOT}|{_UNABLE}))"
_ENGLISH = rf"(?:unfortunately|regrettably|however)?,? ?(?:{_CANNOT}|{_UNABLE}|{_MACHINE}|{_SORRY})"
_OTHERS = (
    r"(?:(?:很|非常|十分|真的)?(?:抱歉|遗憾|遺憾)|对不起|對不起|不好意思)[^\n]{0,40}?(?:无法|無法|不能|没法|沒法|没有办法)",
    r"(?:我|本人)(?:无法|無法|不能|没法|沒法)(?:为您|为你|向您|向你|直接|帮|協|协|幫|回答|提供|满足|滿足|完成|访问|訪問|讨论|討論|生成|执行|給|给)",
    r"作为(?:一个|一名|一款)?(?:ai|人工智能|(?:大型?)?语言模型)[^\n]{0,40}?我",
    r"(?:大変)?申し訳(?:ありません|ございません|ない)[^\n]{0,80}?(?:できません|出来ません|いたしかね|致しかね|かねます)",
    r"죄송(?:합니다|하지만|해요)[^\n]{0,80}?(?:수 없|어렵습니다|못합니다)",
    r"(?:lo (?:siento|lamento)|perdón|disculp[ae])\b[^\n]{0,80}?\bno (?:puedo|podemos|me es posible)\b",
    r"(?:je suis désolée?|désolée?|je m'excuse)\b[^\n]{0,80}?\bje ne (?:peux|puis|suis pas en mesure|suis pas capable)\b",
    r"(?:es )?tut mir (?:sehr )?leid\b[^\n]{0,80}?\b(?:kann ich|ich kann)\b[^\n]{0,80}?\bnicht\b",
    r"(?:desculpe|sinto muito|lamento)\b[^\n]{0,80}?\bnão (?:posso|consigo)\b",
    r"(?:mi dispiace|spiacente)\b[^\n]{0,80}?\bnon (?:posso|sono in grado)\b",
    r"(?:извините|простите|прошу прощения|к сожалению)\b[^\n]{0,80}?\bне (?:могу|можем|в состоянии)\b",
    r"(?:क्षमा करें|माफ़ कीजिए|मुझे खेद है)[^\n]{0,80}?नहीं (?:कर सक|दे सक|बता सक)",
)
_REFUSAL = regex.compile(rf"\W*(?:{_ENGLISH}|{'|'.join(_OTHERS)})", regex.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether ``text`` begins with a refusal, in English or in the usual words of eleven other languages.

    Apostrophes may be typographic. An apology alone ("I'm sorry to hear that") is no refusal, nor is "I cannot stress enough".
    """
    return _REFUSAL.match(text[:_MAX_CHARACTERS].translate(_APOSTROPHES)) is not None
