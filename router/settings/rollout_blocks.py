"""The `rollout` block: who shall replace whom, over which steps, and what is asked of the candidate.

The same block is the body of the admin API's POST, with the same units and the same errors.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from router.core.rollout import BreakerSpec, GateSpec, NoDataSpec, Spec, Step
from router.settings.block import Block, written
from router.settings.forms import Name
from router.settings.metrics import METRICS, Metric, read_limit
from router.settings.units import Duration, DurationOrZero, Share

DEFAULT_MIN_REQUESTS = 200
"""Of the candidate's answers in a step in which it serves any (design.md section 7)."""

Probability = Annotated[float, Field(gt=0, le=0.5)]
Text = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0)]


class StepBlock(Block):
    """One level of exposure, and what must hold before it is left."""

    weight: Share = written("0%", "The candidate's share of live answers.")
    mirror: Share = written("0%", "Share of requests copied to the variant that did not serve them.")
    bake: DurationOrZero = written("60s", "Least time in this step.")
    min_requests: Count | None = Field(
        None, description="Least live answers of the candidate; unset: 200, or 0 where weight is 0%."
    )
    min_pairs: Count = Field(0, description="Least complete pairs.")
    approval: bool = Field(default=False, description="Whether an operator must approve before it is left.")
    gates: list[Text] = Field([], description="Names of the gates that count here; empty: all.")

    @model_validator(mode="after")
    def _can_be_left(self) -> "StepBlock":
        if self.min_pairs and not self.mirror:
            raise ValueError("a `mirror` above 0% where there is a `min_pairs`: pairs need copies")
        if self.min_requests and not self.weight:
            raise ValueError("a `weight` above 0% where there is a `min_requests`: the candidate must serve some")
        return self

    def value(self) -> Step:
        """Return the step in basis points and seconds."""
        usual = DEFAULT_MIN_REQUESTS if self.weight else 0
        return Step(
            weight_bp=self.weight,
            mirror_bp=self.mirror,
            bake_s=self.bake,
            min_requests=usual if self.min_requests is None else self.min_requests,
            min_pairs=self.min_pairs,
            approval=self.approval,
            gates=tuple(self.gates),
        )


class GateBlock(Block):
    """A question with a threshold. Exactly one of max_increase, max_decrease, max and min is set."""

    metric: Metric = Field(description="What is measured.")
    max_increase: float | None = Field(None, description="How much worse the candidate may be (a promotion margin).")
    max_decrease: float | None = Field(None, description="The same for metrics of which more is better.")
    max: float | None = Field(None, description="Highest value the candidate may have.")
    min: float | None = Field(None, description="Lowest value the candidate may have.")
    tolerance: float | None = Field(None, description="The rollback margin; unset: half of the promotion margin.")
    name: Text | None = Field(None, description="For steps and reports; unset: metric[:label][@slice].")
    label: Text | None = Field(None, description="The class that recall, precision or f1 is about.")
    slice: Text | None = Field(None, description="Only requests of this slice.")
    slices: Literal["each"] | None = Field(
        None, description="each: asked of every slice of the route by itself; it finds harm and proves nothing."
    )
    dry_run: bool = Field(default=False, description="Measured and shown, but never decides.")
    weight: float = Field(1.0, gt=0, le=1_000, description="Importance among the gates when harm is weighed up.")
    slack: DurationOrZero = written("2ms", "Only latency: added to its thresholds, so that 0.2ms may become 1ms.")
    beyond: float | None = Field(
        None, gt=0, description="Only disagreement: distance above which a pair differs; unset: the comparator says."
    )

    @field_validator(
        "max_increase", "max_decrease", "max", "min", "tolerance", mode="plain", json_schema_input_type=str | None
    )
    @classmethod
    def _limit(cls, value: object, info: ValidationInfo) -> float | None:
        """Read each limit in the unit of its metric; a wrong metric is an error already."""
        metric = info.data.get("metric")
        if value is None or metric is None or info.field_name is None:
            return None
        return read_limit(metric, info.field_name, value, info.data)

    @model_validator(mode="after")
    def _complete(self) -> "GateBlock":
        takes = METRICS[self.metric]
        given = [self.max_increase, self.max_decrease, self.max, self.min]
        if sum(limit is not None for limit in given) != 1:
            raise ValueError(f"exactly one limit; {self.metric} takes {takes.limits}")
        if takes.per_label and self.label is None:
            raise ValueError(f"`label:`, the class whose {self.metric} is meant")
        if not takes.per_label and self.label is not None:
            raise ValueError(f"no `label:`, since {self.metric} is not of one class")
        if self.slice is not None and self.slices is not None:
            raise ValueError("either `slice`, one of them, or `slices: each`")
        if self.slices is not None and self.metric not in ("error_rate", "disagreement"):
            raise ValueError(f"`slices: each` with error_rate or disagreement; {self.metric} takes one `slice:`")
        if "slack" in self.model_fields_set and self.metric != "latency":
            raise ValueError(f"no `slack:`, since {self.metric} is no time")
        if self.beyond is not None and self.metric != "disagreement":
            raise ValueError(f"no `beyond:`, since {self.metric} does not compare answers by their distance")
        if takes.advisory_difference and self.max_decrease is not None and not self.dry_run:
            raise ValueError(
                f"`dry_run: true` or `min:`; a difference in {self.metric} is advisory only, "
                "since it assumes traffic that never changes"
            )
        return self

    @property
    def full_name(self) -> str:
        """The gate's own name, or one made of metric, label and slice."""
        if self.name is not None:
            return self.name
        return (
            self.metric
            + (f":{self.label}" if self.label else "")
            + (f"@{self.slice or self.slices}" if self.slice or self.slices else "")
        )

    def value(self) -> GateSpec:
        """Return the gate in fractions. A decrease of a score is an increase of what is missing to it."""
        return GateSpec(
            name=self.full_name,
            metric=self.metric,
            max_increase=self.max_decrease if self.max_increase is None else self.max_increase,
            maximum=self.max,
            minimum=self.min,
            tolerance=self.tolerance,
            label=self.label,
            slice=self.slice,
            dry_run=self.dry_run,
            weight=self.weight,
            slack_ms=self.slack * 1_000,
            beyond=self.beyond,
            slices=self.slices,
        )


class BreakerBlock(Block):
    """When a worker takes the candidate's traffic away by itself."""

    consecutive: int = Field(5, ge=1, description="Failures in a row.")
    window: int = Field(20, ge=1, le=1_000, description="Last requests to look at.")
    ratio: Share = written("50%", "Share of failures among them.")
    fleet: Literal["halt", "abort", "local"] = Field(
        "halt", description="What it proposes to all: pause with weight 0, roll back, or nothing."
    )


class NoDataBlock(Block):
    """What happens when no evidence arrives."""

    after: Duration = written("10m", "How long to wait for any.")
    action: Literal["pause", "abort"] = Field("pause", description="What to do then.")


class RolloutBlock(Block):
    """One attempt to replace stable by candidate."""

    candidate: Name = Field(description="The variant on trial.")
    policy: str = Field(description="shadow, canary, blue_green, or a plug-in's name.")
    steps: list[StepBlock] = Field([], description="Levels of exposure in their order; unset: the policy's own.")
    gates: list[GateBlock] = Field([], description="What is asked of the candidate.")
    alpha: Probability = Field(0.01, description="Chance that the judge ever rolls back a good candidate.")
    beta: Probability = Field(0.05, description="Chance that the judge ever promotes a bad one.")
    breaker: BreakerBlock = Field(default_factory=BreakerBlock)
    no_data: NoDataBlock = Field(default_factory=NoDataBlock)
    on_inconclusive: Literal["pause", "abort"] = Field(
        "pause", description="What to do at max_duration when the judge is not sure."
    )
    max_duration: Duration = written("7d", "Longest time a rollout may take.")
    rollback_window: Duration = written(
        "24h", "How long blue_green serves 100% before it promotes, and how long after a promotion `undo` is possible."
    )

    def value(self) -> Spec:
        """Return what is asked for, in the units of the core."""
        return Spec(
            candidate=self.candidate,
            policy=self.policy,
            steps=tuple(step.value() for step in self.steps),
            gates=tuple(gate.value() for gate in self.gates),
            alpha=self.alpha,
            beta=self.beta,
            breaker=BreakerSpec(
                consecutive=self.breaker.consecutive,
                window=self.breaker.window,
                ratio_bp=self.breaker.ratio,
                fleet=self.breaker.fleet,
            ),
            no_data=NoDataSpec(after_s=self.no_data.after, action=self.no_data.action),
            on_inconclusive=self.on_inconclusive,
            max_duration_s=self.max_duration,
            rollback_window_s=self.rollback_window,
        )
