"""Types of encryption: the values of ``encrypt_type`` in a plan, as in MindSpore Federated 0.1.0 but for the last."""

from __future__ import annotations

PLAIN, DP, SIGN_DS = "NOT_ENCRYPT", "DP_ENCRYPT", "SIGNDS"
PW, STABLE_PW, PW_EXACT = "PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT"
#: secure aggregation: uploads are masked; the last one is mindfl's own
MASKED_TYPES = (PW, STABLE_PW, PW_EXACT)
ENCRYPT_TYPES = (PLAIN, DP, SIGN_DS, *MASKED_TYPES)
