"""Autoencoders."""

from dgm.models.spec import Spec, family

MODELS = family(
    "autoencoder",
    autoencoder=Spec(
        "Autoencoder",
        "none",
        "Hinton & Salakhutdinov 2006",
        "code and reconstruction, sampled through a Gaussian fitted to the codes",
    ),
    denoising_ae=Spec("DenoisingAE", "none", "Vincent et al. 2008, 2010", "reconstructs x from a corrupted x"),
    sparse_ae=Spec("SparseAE", "none", "Ng 2011; Olshausen & Field 1996", "a code with many units, few of them active"),
    contractive_ae=Spec("ContractiveAE", "none", "Rifai et al. 2011", "a code that changes little with x"),
    stacked_ae=Spec("StackedAE", "none", "Bengio et al. 2006", "its layers are trained each by itself, then together"),
)
