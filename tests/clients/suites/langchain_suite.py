"""LangChain's standard suite for chat models, through ChatOpenAI at BASE_URL: `langchain-tests` as it is published."""

import os

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests


class _OfGateway:
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": os.environ["MODEL"],
            "base_url": os.environ["BASE_URL"],
            "api_key": "not-needed",
            "max_retries": 0,
        }

    @property
    def supports_image_inputs(self):
        return True

    @property
    def supports_json_mode(self):
        return True


class TestUnit(_OfGateway, ChatModelUnitTests):
    pass


class TestIntegration(_OfGateway, ChatModelIntegrationTests):
    pass
