"""Flow matching."""

from dgm.models.spec import Spec, family

MODELS = family(
    "flow_matching",
    flow_matching=Spec(
        "FlowMatching",
        "estimate",
        "Lipman et al. 2022, arXiv:2210.02747",
        "velocity of straight paths from noise to data, Euler and Heun",
    ),
    ot_cfm=Spec(
        "OTCFM",
        "estimate",
        "Tong et al. 2023, arXiv:2302.00482; Pooladian et al. 2023, arXiv:2304.14772",
        "flow matching with minibatch optimal transport between noise and data",
    ),
    rectified_flow=Spec(
        "RectifiedFlow",
        "estimate",
        "Liu et al. 2022, arXiv:2209.03003",
        "flow matching, then reflow on its own pairs, sampled with one or few steps",
    ),
    mean_flow=Spec(
        "MeanFlow",
        "estimate",
        "Geng et al. 2025, arXiv:2505.13447",
        "average velocity between two times, sampled in one step",
    ),
)
