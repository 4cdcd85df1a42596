"""Wire formats: each a file that turns its requests into conversations, and replies into its answers.

Adding one is a file and a line in `DIALECTS` (docs/extending.md).
"""

from typing import Final

from bessemer.dialects.anthropic_messages import AnthropicMessages
from bessemer.dialects.base import Dialect
from bessemer.dialects.openai_chat import OpenAIChat
from bessemer.dialects.openai_embeddings import OpenAIEmbeddings
from bessemer.dialects.openai_responses import OpenAIResponses

DIALECTS: Final[tuple[Dialect, ...]] = (OpenAIChat(), OpenAIEmbeddings(), OpenAIResponses(), AnthropicMessages())
