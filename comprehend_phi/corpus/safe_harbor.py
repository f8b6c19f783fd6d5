"""Which of HIPAA's 18 identifiers each type of entity belongs to, according to AWS."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from .._entities import EntityType


class SafeHarborIdentifier(StrEnum):
    """The identifiers that HIPAA's Safe Harbor method removes: 45 CFR 164.514(b)(2)(i), (A) to (R).

    AWS numbers them from 1 to 18.
    """

    NAMES = "(A) names"
    LOCATIONS = "(B) geographic subdivisions smaller than a state"
    DATES = "(C) dates, and ages over 89"
    TELEPHONE_NUMBERS = "(D) telephone numbers"
    FAX_NUMBERS = "(E) fax numbers"
    EMAIL_ADDRESSES = "(F) email addresses"
    SOCIAL_SECURITY_NUMBERS = "(G) social security numbers"
    MEDICAL_RECORD_NUMBERS = "(H) medical record numbers"
    HEALTH_PLAN_NUMBERS = "(I) health plan beneficiary numbers"
    ACCOUNT_NUMBERS = "(J) account numbers"
    LICENSE_NUMBERS = "(K) certificate and license numbers"
    VEHICLE_IDENTIFIERS = "(L) vehicle identifiers and serial numbers"
    DEVICE_IDENTIFIERS = "(M) device identifiers and serial numbers"
    URLS = "(N) URLs"
    IP_ADDRESSES = "(O) IP addresses"
    BIOMETRIC_IDENTIFIERS = "(P) biometric identifiers"
    PHOTOGRAPHS = "(Q) full-face photographs"
    OTHERS = "(R) any other unique identifying number, characteristic, or code"


SAFE_HARBOR: Mapping[str, tuple[SafeHarborIdentifier, ...]] = MappingProxyType(
    {
        EntityType.NAME: (SafeHarborIdentifier.NAMES,),
        EntityType.AGE: (SafeHarborIdentifier.DATES,),
        EntityType.DATE: (SafeHarborIdentifier.DATES,),
        EntityType.PHONE_OR_FAX: (
            SafeHarborIdentifier.TELEPHONE_NUMBERS,
            SafeHarborIdentifier.FAX_NUMBERS,
        ),
        EntityType.EMAIL: (SafeHarborIdentifier.EMAIL_ADDRESSES,),
        EntityType.ID: (
            SafeHarborIdentifier.SOCIAL_SECURITY_NUMBERS,
            SafeHarborIdentifier.MEDICAL_RECORD_NUMBERS,
            SafeHarborIdentifier.HEALTH_PLAN_NUMBERS,
            SafeHarborIdentifier.ACCOUNT_NUMBERS,
            SafeHarborIdentifier.LICENSE_NUMBERS,
            SafeHarborIdentifier.VEHICLE_IDENTIFIERS,
            SafeHarborIdentifier.DEVICE_IDENTIFIERS,
            SafeHarborIdentifier.BIOMETRIC_IDENTIFIERS,
            SafeHarborIdentifier.OTHERS,
        ),
        EntityType.URL: (SafeHarborIdentifier.URLS,),
        EntityType.ADDRESS: (SafeHarborIdentifier.LOCATIONS,),
        EntityType.PROFESSION: (SafeHarborIdentifier.OTHERS,),
    }
)
"""AWS's table of the types of entities and of HIPAA's identifiers.

Source: Developer Guide, "Detect PHI", "Detected PHI entities",
https://docs.aws.amazon.com/comprehend-medical/latest/dev/textanalysis-phi.html. AWS adds that
"these entities don't map 1:1 to the list specified by the Safe Harbor method".
"""

NOT_COVERED: tuple[SafeHarborIdentifier, ...] = tuple(
    identifier
    for identifier in SafeHarborIdentifier
    if not any(identifier in found for found in SAFE_HARBOR.values())
)
"""The identifiers that AWS's table assigns to no type: IP addresses and photographs."""
