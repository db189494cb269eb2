"""Make csrc/template/math_coefs.h: the polynomials behind the activations, by the Remez exchange.

Usage: python tools/minimax.py > csrc/template/math_coefs.h        (needs mpmath; ten seconds)

Each polynomial is fitted for least relative error, then its coefficients are rounded to the type.
The error printed is that of the rounded polynomial in exact arithmetic.
"""

import mpmath as mp

mp.mp.dps = 50
MANTISSA = {"F32": 24, "F64": 53}


def round_to(x, bits):
    """Return x rounded to a binary float of `bits` significant bits."""
    if x == 0:
        return mp.mpf(0)
    exponent = mp.floor(mp.log(abs(x), 2)) - bits + 1
    return mp.nint(x / mp.mpf(2) ** exponent) * mp.mpf(2) ** exponent


def hexfloat(x, suffix):
    """Return the C hexadecimal literal of x, which must be exact in a double."""
    assert mp.mpf(float(x)) == x
    mantissa, exponent = float(x).hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}{suffix}"


def horner(coefs, x):
    """Evaluate coefs (lowest degree first) at x."""
    result = mp.mpf(0)
    for c in reversed(coefs):
        result = result * x + c
    return result


def remez(target, degree, low, high):
    """Fit the polynomial of least maximal relative error; return (coefficients, error).

    target(x) must not be zero on [low, high].
    """
    n_coefs = degree + 1
    n_grid = 40 * (n_coefs + 2)
    angles = [mp.pi * i / n_grid for i in range(n_grid + 1)]
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(t) for t in angles]
    values = [target(x) for x in grid]
    picked = [round(n_grid * i / n_coefs) for i in range(n_coefs + 1)]
    for _ in range(12):
        a = mp.matrix(n_coefs + 1)
        rhs = mp.matrix(n_coefs + 1, 1)
        for i, g in enumerate(picked):
            for j in range(n_coefs):
                a[i, j] = grid[g] ** j
            a[i, n_coefs] = (-1) ** i * values[g]
            rhs[i] = values[g]
        solution = mp.lu_solve(a, rhs)
        coefs = [solution[j] for j in range(n_coefs)]
        errors = [horner(coefs, x) / v - 1 for x, v in zip(grid, values, strict=True)]
        # The largest error of each run of one sign; then drop the smaller end until it fits.
        runs = []
        for g, e in enumerate(errors):
            if runs and mp.sign(errors[runs[-1]]) == mp.sign(e):
                if abs(e) > abs(errors[runs[-1]]):
                    runs[-1] = g
            else:
                runs.append(g)
        while len(runs) > n_coefs + 1:
            runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
        if len(runs) < n_coefs + 1 or runs == picked:
            break
        picked = runs
    return coefs, max(abs(e) for e in errors)


def fit(target, degree, low, high, kind):
    """Return (coefficients exact in the type, their relative error once rounded)."""
    low, high = mp.mpf(low), mp.mpf(high)
    coefs = [round_to(c, MANTISSA[kind]) for c in remez(target, degree, low, high)[0]]
    points = [low + (high - low) * i / 4000 for i in range(4001)]
    return coefs, max(abs(horner(coefs, x) / target(x) - 1) for x in points)


def expm1_tail(r):
    """(exp(r) - 1 - r) / r^2."""
    if abs(r) < mp.mpf(10) ** -9:
        return mp.mpf(1) / 2 + r / 6 + r * r / 24
    return (mp.expm1(r) - r) / (r * r)


def atanh_tail(w):
    """(2 atanh(s) - 2 s) / s^3 at w = s^2."""
    if w < mp.mpf(10) ** -16:
        return mp.mpf(2) / 3 + 2 * w / 5 + 2 * w * w / 7
    s = mp.sqrt(w)
    return (2 * mp.atanh(s) - 2 * s) / s**3


def normal_tail(k):
    """(x + k) exp(x^2 / 2) Phi(-x) at y = (x - k) / (x + k): smooth on all x >= 0."""

    def target(y):
        x = k * (1 + y) / (1 - y)
        return (x + k) * mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2

    return target


def emit(name, comment, coefs, error, kind):
    """Print one coefficient list as a macro."""
    suffix = "f" if kind == "F32" else ""
    lines = ", \\\n    ".join(hexfloat(c, suffix) for c in coefs)
    print(f"/* {comment}; relative error 2^{mp.nstr(mp.log(error, 2), 4)} */")
    print(f"#define FGD_{name}_{kind} \\\n    {lines}\n")


def main():
    """Fit everything and print the header."""
    print("/* Polynomial coefficients of math.h, lowest degree first; made by tools/minimax.py. */")
    print("/* clang-format off */")
    print("#ifndef FGD_MATH_COEFS_H\n#define FGD_MATH_COEFS_H\n")
    half_ln2 = mp.log(2) / 2 * (1 + mp.mpf(2) ** -12)
    log_w = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * (1 + mp.mpf(2) ** -12)
    for kind, exp_degree, log_degree, log1p_degree, normal_degree, k, x_max in (
        # Near each k the minimax error changes little, that of the rounded polynomial much;
        # these were the best of some tens of values.
        ("F32", 4, 2, 4, 9, mp.mpf("3.4375"), mp.mpf("13.5")),
        ("F64", 10, 6, 10, 23, mp.mpf("3.46875"), mp.mpf(38)),
    ):
        coefs, error = fit(expm1_tail, exp_degree, -half_ln2, half_ln2, kind)
        emit("EXP_POLY", "(exp(r) - 1 - r) / r^2, |r| <= ln(2) / 2", coefs, error, kind)
        coefs, error = fit(atanh_tail, log_degree, 0, log_w, kind)
        emit("LOG_POLY", "(2 atanh(s) - 2 s) / s^3 in s^2, s <= 0.1716", coefs, error, kind)
        coefs, error = fit(atanh_tail, log1p_degree, 0, mp.mpf(1) / 9, kind)
        emit("LOG1P_POLY", "the same, s <= 1/3", coefs, error, kind)
        coefs, error = fit(normal_tail(k), normal_degree, -1, (x_max - k) / (x_max + k), kind)
        comment = f"(x + k) exp(x^2 / 2) Phi(-x) in (x - k) / (x + k), 0 <= x <= {x_max}"
        print(f"#define FGD_NORMAL_TAIL_K_{kind} {k}")
        emit("NORMAL_TAIL_POLY", comment, coefs, error, kind)
    print("#endif")


if __name__ == "__main__":
    main()
