# The types of what this package uses of Airflow 2.11 and 3, and of its Amazon provider. Airflow
# cannot be in the development environment, and its own types are incomplete.

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import timedelta
from logging import Logger
from typing import Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar

from boto3.session import Session
from botocore.config import Config

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Hook = TypeVar("_Hook", bound=AwsGenericHook)

class AirflowException(Exception): ...
class AirflowFailException(AirflowException): ...

class _Conf:
    def getboolean(self, section: str, key: str, *, fallback: bool) -> bool: ...

conf: _Conf

def sync_to_async(function: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]: ...

class _ConnectionWrapper:
    def get_service_endpoint_url(self, service_name: str) -> str | None: ...

class AwsGenericHook:
    default_conn_name: ClassVar[str]
    aws_conn_id: str | None
    def __init__(
        self,
        aws_conn_id: str | None = ...,
        verify: bool | str | None = ...,
        region_name: str | None = ...,
        client_type: str | None = ...,
        resource_type: str | None = ...,
        config: Config | dict[str, Any] | None = ...,
    ) -> None: ...
    @property
    def conn_config(self) -> _ConnectionWrapper: ...
    @property
    def conn_region_name(self) -> str: ...
    @property
    def conn_partition(self) -> str: ...
    @property
    def region_name(self) -> str | None: ...
    @property
    def config(self) -> Config: ...
    @property
    def verify(self) -> bool | str | None: ...
    def get_session(self, region_name: str | None = ...) -> Session: ...

BASE_AWS_CONSOLE_LINK: str

class BaseAwsLink:
    name: ClassVar[str]
    key: ClassVar[str]
    format_str: ClassVar[str]
    def format_link(self, **kwargs: Any) -> str: ...
    def get_link(self, operator: Any, *, ti_key: Any) -> str: ...
    @classmethod
    def persist(
        cls, context: Any, operator: Any, region_name: str, aws_partition: str, **kwargs: Any
    ) -> None: ...

def aws_template_fields(*template_fields: str) -> tuple[str, ...]: ...

# What operators and sensors have in common.
class _Task(Generic[_Hook]):
    aws_hook_class: type[_Hook]
    template_fields: Sequence[str]
    operator_extra_links: ClassVar[Sequence[Any]]
    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None
    task_id: str
    output: Any
    def __init__(
        self,
        *,
        aws_conn_id: str | None = ...,
        region_name: str | None = ...,
        verify: bool | str | None = ...,
        botocore_config: dict[str, Any] | None = ...,
        **kwargs: Any,
    ) -> None: ...
    @classmethod
    def partial(cls, *, task_id: str, **kwargs: Any) -> Any: ...
    @property
    def hook(self) -> _Hook: ...
    @property
    def log(self) -> Logger: ...
    def defer(
        self, *, trigger: BaseTrigger, method_name: str, timeout: timedelta | None = ...
    ) -> NoReturn: ...
    def execute(self, context: Any) -> Any: ...
    def on_kill(self) -> None: ...
    def __rshift__(self, other: Any) -> Any: ...
    def __lshift__(self, other: Any) -> Any: ...
    def __rrshift__(self, other: Any) -> Any: ...
    def __rlshift__(self, other: Any) -> Any: ...

class AwsBaseOperator(_Task[_Hook]): ...

class AwsBaseSensor(_Task[_Hook]):
    poke_interval: float
    timeout: float
    def poke(self, context: Any) -> Any: ...

class TriggerEvent:
    payload: Any
    def __init__(self, payload: Any) -> None: ...

class BaseTrigger(ABC):
    task_instance: Any
    def __init__(self) -> None: ...
    @abstractmethod
    def serialize(self) -> tuple[str, dict[str, Any]]: ...
    @abstractmethod
    def run(self) -> AsyncIterator[TriggerEvent]: ...
    async def on_kill(self) -> None: ...
    async def cleanup(self) -> None: ...

async def is_deferred(trigger: BaseTrigger) -> bool: ...
