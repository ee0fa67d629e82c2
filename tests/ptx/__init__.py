"""A card in numpy: runs the PTX that Triton makes of a launch, on CPU tensors, and checks what no interpreter sees.

    python -m tests.ptx --arch sm_90 --dtype float16             every plan of a card beside torch
    TRITON_INTERPRET=0 python -m pytest -p tests.ptx.plugin tests/kernels/pool2d     any test of kernels, with --arch

Programs of sm_80 to sm_90 and sm_120: mma.sync, ldmatrix, cp.async; wgmma and TMA. Not run: tcgen05 (sm_100), AMD.
Every address is checked against the tensors of the launch. What nobody has written is NaN. An asynchronous copy is
done when the program waits for it and is NaN until then, so that a missing wait shows; an operand of a product that
changes while the product is under way is an error. Not modelled: time, the order in which warps run (but see
races.py), ptxas and the card itself, the rounding inside of tensor cores (use small integers, whose sums are exact).
Before 3.7 Triton puts no fence.proxy.async between cp.async and wgmma or tcgen05 (upstream's #9610), as PTX demands;
--races says so of nearly every program that it makes for sm_90. CUTLASS's loops of cp.async and wgmma have none either.
"""
