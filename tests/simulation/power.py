"""Time to detect and failures served until then: ours and four rivals on the same traces (statistics.md section 4).

Section 4 gives 100 requests/s, shares 1/5/25/50 %, 25 minutes and a base rate that swings by 80 %, but neither the
schedule nor the swing's period. Fitted to its excess failures, they are: a new share every 300 s, the last one until
the end, and a sine of 15 minutes that starts at its mean and rises (steps of 240, 360 and 375 s, periods from 200 to
3,100 s and other phases fit worse). Excess failures are the candidate's failures before the second in which the judge
fires, times 1 - 1/ratio: the part that stable would not have had. That reading gives all ten integers of section 4.

Each cell is judged by our e-process alone (one gate, no tolerance, no start points), as section 4 does, and as the
product does it: gate error_rate with 0.5 percentage points, start points, half of the weight, `judge.strongest`.
Neither may be later or let more failures through than is written down here.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from router.analysis import gates as ask
from router.analysis.eprocess import (
    BETTER,
    WORSE,
    Floats,
    log_e_2x2,
    log_e_arm,
    log_e_bern,
    log_e_bet,
    log_e_ipw,
    log_e_paired,
    log_mean_exp,
    mixed,
    mixed_from_each_start,
)
from router.analysis.gates import Arm
from router.analysis.judge import strongest
from router.analysis.measures import QUANTILES
