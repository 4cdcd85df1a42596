"""The simulated expert is deterministic, imperfect as stated, and an ordinary OpenAI-compatible upstream."""

import pytest
from openai import AsyncOpenAI, BadRequestError

from bessemer.cli.demo import expert, offers, scenario

CASE = scenario.build(3, scenario.Scale.of(smoke=True))


def count(text):
    return len(text.split())


def test_it_errs_on_the_stated_shares_and_always_says_the_same():
    pairs = offers.generate(6000, 5)
    said = [expert.verdict(pair, 5) for pair in pairs]
    assert said == [expert.verdict(pair, 5) for pair in pairs]
    assert said != [expert.verdict(pair, 6) for pair in pairs]
    for hard, stated in ((False, expert.ORDINARY_ERRORS), (True, expert.TWIN_ERRORS)):
        wrong = [text != pair.answer for pair, text in zip(pairs, said, strict=True) if pair.hard == hard]
        assert sum(wrong) / len(wrong) == pytest.approx(stated, abs=0.015)


async def test_it_answers_whole_and_streamed_with_usage_and_refuses_what_it_does_not_know():
    prompt, text = next(iter(CASE.expert.items()))
    messages = [{"role": "user", "content": prompt}]
    async with expert.Expert(CASE.expert, count) as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0)
        whole = await client.chat.completions.create(model="simulated-expert", messages=messages)
        assert whole.choices[0].message.content == text
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (count(prompt), 1)
        stream = await client.chat.completions.create(model="simulated-expert", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
        assert chunks[-1].usage == whole.usage
        with pytest.raises(BadRequestError, match="own questions"):
            await client.chat.completions.create(model="x", messages=[{"role": "user", "content": "Hello."}])
        await client.close()


async def test_an_interrupted_run_finds_it_on_its_port_and_a_taken_port_is_left():
    async with expert.Expert(CASE.expert, count) as first:
        async with expert.Expert(CASE.expert, count, first.port) as second:
            assert second.port != first.port
        port = first.port
    async with expert.Expert(CASE.expert, count, port) as again:
        assert again.port == port


def test_it_knows_every_question_of_the_demo():
    assert len(CASE.expert) == len(CASE.questions)
    assert set(CASE.expert.values()) == set(scenario.LABELS)
