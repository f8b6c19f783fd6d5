"""Entities, their types, and entities from AWS's own dicts."""

from __future__ import annotations

import json
import pickle
from types import MappingProxyType
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from comprehend_phi import Entity, EntityType, RequestValidationError, Trait, redact

from ..conftest import CANARY

TEXT = f"Patient {CANARY}, seen."

MEMBERS: dict[str, Any] = {
    "Id": 7,
    "BeginOffset": 8,
    "EndOffset": 26,
    "Score": 0.875,
    "Text": CANARY,
    "Category": "PROTECTED_HEALTH_INFORMATION",
    "Type": "NAME",
    "Traits": [{"Name": "NEGATION", "Score": 0.5}],
}
ENTITY = Entity(
    id=7,
    begin_offset=8,
    end_offset=26,
    score=0.875,
    text=CANARY,
    category="PROTECTED_HEALTH_INFORMATION",
    type="NAME",
    traits=(Trait(name="NEGATION", score=0.5),),
)


# --- From dicts -----------------------------------------------------------------------------------


def test_from_dict_accepts_the_names_of_aws() -> None:
    assert Entity.from_dict(MEMBERS) == ENTITY


def test_from_dict_accepts_any_mapping() -> None:
    assert Entity.from_dict(MappingProxyType(MEMBERS)) == ENTITY


def test_from_dict_accepts_an_entity_without_traits() -> None:
    assert Entity.from_dict({k: v for k, v in MEMBERS.items() if k != "Traits"}).traits == ()


def test_from_dict_ignores_members_that_the_service_may_add() -> None:
    assert Entity.from_dict({**MEMBERS, "Attributes": [], "NewMember": CANARY}) == ENTITY


def test_from_dict_accepts_an_unknown_type() -> None:
    assert Entity.from_dict({**MEMBERS, "Type": "RETINA_SCAN"}).type == "RETINA_SCAN"


def test_from_dict_accepts_what_boto3_returns() -> None:
    session: Any = boto3.Session(region_name="us-east-1")
    client = session.client("comprehendmedical")
    with Stubber(client) as stub:
        stub.add_response("detect_phi", {"Entities": [MEMBERS], "ModelVersion": "0.1.0"})
        response = client.detect_phi(Text=TEXT)

    entities = [Entity.from_dict(members) for members in response["Entities"]]

    assert entities == [ENTITY]
    assert redact(TEXT, entities) == "Patient [NAME], seen."


numbers = st.integers(-(2**63), 2**63 - 1)
scores = st.floats(allow_nan=False)


@given(numbers, numbers, numbers, scores, st.text(), st.text(), st.text())
def test_from_dict_accepts_every_value_that_json_allows(
    id_: int, begin: int, end: int, score: float, text: str, category: str, type_: str
) -> None:
    members = {
        "Id": id_,
        "BeginOffset": begin,
        "EndOffset": end,
        "Score": score,
        "Text": text,
        "Category": category,
        "Type": type_,
    }

    assert Entity.from_dict(json.loads(json.dumps(members))) == Entity(
        id=id_,
        begin_offset=begin,
        end_offset=end,
        score=score,
        text=text,
        category=category,
        type=type_,
    )


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        *(
            ({k: v for k, v in MEMBERS.items() if k != missing}, f"required field `{missing}`")
            for missing in MEMBERS
            if missing != "Traits"
        ),
        ({**MEMBERS, "Id": CANARY}, "Expected `int`, got `str` - at `$.Id`"),
        ({**MEMBERS, "Id": 1.5}, "Expected `int`, got `float` - at `$.Id`"),
        ({**MEMBERS, "BeginOffset": None}, "Expected `int`, got `null` - at `$.BeginOffset`"),
        ({**MEMBERS, "Score": CANARY}, "Expected `float`, got `str` - at `$.Score`"),
        ({**MEMBERS, "Text": CANARY.encode()}, "Expected `str`, got `bytes` - at `$.Text`"),
        ({**MEMBERS, "Type": [CANARY]}, "Expected `str`, got `array` - at `$.Type`"),
        ({**MEMBERS, "Traits": {CANARY: 1}}, "Expected `array`, got `object` - at `$.Traits`"),
        ({**MEMBERS, "Traits": [{"Name": CANARY}]}, "`Score` - at `$.Traits[0]`"),
        ({"id": 7, "text": CANARY}, "required field `Id`"),
        ({7: CANARY}, "Expected `str` - at `key` in `$`"),
    ],
)
def test_from_dict_rejects_an_invalid_entity_without_quoting_it(members: Any, problem: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        Entity.from_dict(members)

    error = caught.value
    assert (error.owner, error.field, error.shape) == ("Entity.from_dict", "members", "Entity")
    assert error.reason.startswith("must be an entity: ")
    assert problem in error.reason
    assert CANARY not in f"{error!r} {error} {vars(error)}"
    assert error.__cause__ is error.__context__ is None


@pytest.mark.parametrize("wrong", [None, 7, CANARY, json.dumps(MEMBERS), [MEMBERS], ENTITY, Entity])
def test_from_dict_rejects_other_objects_than_mappings(wrong: Any) -> None:
    with pytest.raises(RequestValidationError) as caught:
        Entity.from_dict(wrong)

    assert str(caught.value) == (
        f"Entity.from_dict.members (Mapping) must be a Mapping, not {type(wrong).__name__}; for"
        " example, pass an item of `Entities` from a boto3 response"
    )


# --- Types ----------------------------------------------------------------------------------------


def test_the_types_are_those_of_the_service_model() -> None:
    session: Any = botocore.session.get_session()
    model = session.get_component("data_loader").load_service_model(
        "comprehendmedical", "service-2"
    )
    types: list[str] = model["shapes"]["EntitySubType"]["enum"]

    # The model lists the types of every category. The PHI types are neighbors, except NAME.
    of_phi = types[types.index("DATE") : types.index("PROFESSION") + 1]
    assert {str(type_) for type_ in EntityType} == {"NAME", *of_phi}


@pytest.mark.parametrize("type_", EntityType)
def test_a_type_equals_its_string(type_: EntityType) -> None:
    assert type_ == str(type_) == f"{type_}" == type_.name
    assert hash(type_) == hash(str(type_))
    assert pickle.loads(pickle.dumps(type_)) is type_


def test_the_type_of_an_entity_equals_the_known_type() -> None:
    assert ENTITY.type == EntityType.NAME
    assert ENTITY.type != EntityType.DATE
    assert "RETINA_SCAN" not in set(EntityType)
