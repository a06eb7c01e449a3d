"""Autoregressive models."""

from dgm.models.spec import Spec, family

MODELS = family(
    "autoregressive",
    fvsbn=Spec(
        "FVSBN",
        "exact",
        "Neal 1992; Frey, Hinton & Dayan 1996",
        "logistic regression of each dimension on all earlier ones",
    ),
    nade=Spec(
        "NADE",
        "exact",
        "Larochelle & Murray 2011; Uria et al. 2013, arXiv:1306.0186",
        "one hidden layer for each dimension, with shared weights",
    ),
    made=Spec(
        "MADE", "exact", "Germain et al. 2015, arXiv:1502.03509", "masked autoencoder: every conditional in one pass"
    ),
    orderless_made=Spec(
        "OrderlessMADE", "exact", "Germain et al. 2015, arXiv:1502.03509", "masked autoencoder in many orders, averaged"
    ),
    pixelrnn=Spec(
        "PixelRNN", "exact", "van den Oord et al. 2016, arXiv:1601.06759", "LSTMs down the rows or along the diagonals"
    ),
    pixelcnn=Spec(
        "PixelCNN",
        "exact",
        "van den Oord et al. 2016, arXiv:1601.06759",
        "masked convolutions over the pixels above and to the left",
    ),
    gated_pixelcnn=Spec(
        "GatedPixelCNN",
        "exact",
        "van den Oord et al. 2016, arXiv:1606.05328",
        "gated convolutions in two stacks, without a blind spot",
    ),
    pixelcnn_pp=Spec(
        "PixelCNNPP",
        "exact",
        "Salimans et al. 2017, arXiv:1701.05517",
        "mixtures of discretised logistics for whole pixels, at several resolutions",
    ),
    image_gpt=Spec("ImageGPT", "exact", "Chen et al. 2020", "causal transformer over pixels in raster order"),
    char_gpt=Spec("CharGPT", "exact", "Radford et al. 2019", "causal transformer over the characters of a text"),
    wavenet=Spec(
        "WaveNet", "exact", "van den Oord et al. 2016, arXiv:1609.03499", "dilated causal convolutions over sound"
    ),
)
