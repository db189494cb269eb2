"""Build the C core and the two Cython extensions; all other metadata is in pyproject.toml.

Environment switches (the first three rebuild everything):
  FASTGD_DEBUG=1                     -O0 -g, assertions and Cython's bounds checks on
  FASTGD_SANITIZE=address,undefined  sanitizers; preload the runtime when you start Python
  FASTGD_COVERAGE=1                  -O0 and gcov's counters
  FASTGD_WERROR=1                    every compiler warning in the C core is an error
"""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG, COVERAGE, WERROR = (
    os.environ.get(f"FASTGD_{name}", "0") not in ("", "0")
    for name in ("DEBUG", "COVERAGE", "WERROR")
)
SANITIZE = os.environ.get("FASTGD_SANITIZE", "")

# Module -> sources. The C core is linked into one module only; the others reach it by cimport.
MODULES = {
    "fastgd._kernels": ["src/fastgd/_kernels.pyx", *sorted(glob("csrc/*.c"))],
    "fastgd._engine": ["src/fastgd/_engine.pyx"],
}

# One code path chosen at run time: never -march=native, and no contraction that the source does
# not spell out, or the bits would depend on the compiler.
WINDOWS = sys.platform == "win32"
if WINDOWS:  # clang-cl, which takes the flags of clang behind a prefix
    COMPILE = ["/std:c11", "/clang:-ffp-contract=off"]
    COMPILE += ["/Od", "/UNDEBUG"] if DEBUG else ["/clang:-O3", "/DNDEBUG"]
    LINK = []
else:
    COMPILE = ["-std=c11", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
    if DEBUG:
        COMPILE += ["-O0", "-g", "-UNDEBUG"]
    elif COVERAGE:
        # Each line and branch is to be as written; tools/line_coverage.py compiles programs so.
        COMPILE += ["-O0", "-g", "-DNDEBUG"]
        COMPILE += ["-DFGD_INLINE=static inline __attribute__((unused))"]
    elif SANITIZE:
        # At -O3 what a sanitizer adds takes many times as long to compile.
        COMPILE += ["-O1", "-g", "-UNDEBUG"]
    else:
        COMPILE += ["-O3", "-g0", "-DNDEBUG"]
    LINK = ["-pthread"]
MACROS = []
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "embedsignature": True,
}
if SANITIZE:
    COMPILE += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    LINK += [f"-fsanitize={SANITIZE}"]
if COVERAGE:
    LINK += ["--coverage"]
if DEBUG and COVERAGE:
    raise SystemExit("FASTGD_COVERAGE has no optimisation either: leave out FASTGD_DEBUG")
if WINDOWS and (SANITIZE or COVERAGE):
    raise SystemExit("FASTGD_SANITIZE and FASTGD_COVERAGE need Linux or macOS")
MACROS.append(("FGD_BUILD_FLAGS", '"' + " ".join(COMPILE) + '"'))


def use_clang_cl(compiler):
    """Make setuptools' compiler for Windows call clang-cl: Microsoft's own cannot compile the core,
    which has its vectors in gcc's and clang's terms.
    """
    name = os.environ.get("CC", "clang-cl")
    path = shutil.which(name)
    if path is None or not Path(path).stem.lower().startswith("clang-cl"):
        raise SystemExit(
            f"fastgd needs clang-cl on Windows, and {name!r} is not that or is not on the path. "
            "Microsoft's compiler is not supported. Install LLVM, or the component 'C++ Clang "
            "tools for Windows' of Visual Studio; or name clang-cl's full path in CC."
        )
    if not compiler.initialized:
        compiler.initialize()
    compiler.cc = path


class BuildExt(build_ext):
    """Compile the sources of an extension in parallel, with strict warnings for our own C."""

    def finalize_options(self):
        super().finalize_options()
        # What was built with other switches looks up to date, but is not.
        self.force = self.force or DEBUG or COVERAGE or bool(SANITIZE)
        if COVERAGE:  # gcov wants what is beside the objects, which pip would remove
            self.build_temp = str(Path("build/coverage").absolute())

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            use_clang_cl(self.compiler)
        compile_all = self.compiler.compile

        def compile_one(source, **options):
            flags = list(options.pop("extra_postargs") or ())
            if Path(source).parts[0] == "csrc":
                # For clang-cl /W4 is what -Wall -Wextra are for clang.
                strict = ["/W4"] if WINDOWS else ["-Wall", "-Wextra"]
                flags += strict + ["/WX" if WINDOWS else "-Werror"] * WERROR
                # Of Cython's files nobody asks for the counters, whose writing takes so long that
                # a process which is killed leaves half of them.
                flags += ["--coverage"] * COVERAGE
            return compile_all([source], extra_postargs=flags, **options)

        def compile_parallel(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_one(source, **options), sources)
                return [path for paths in objects for path in paths]

        self.compiler.compile = compile_parallel
        super().build_extensions()


extensions = [
    Extension(
        name,
        sources,
        include_dirs=["csrc"],
        define_macros=MACROS,
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        depends=["setup.py", *glob("csrc/**/*.[ch]", recursive=True), *glob("src/fastgd/*.pxd")],
    )
    for name, sources in MODULES.items()
]

setup(
    ext_modules=cythonize(
        extensions,
        # Generated C differs with these: what was made with others looks up to date.
        build_dir="build/cython" + "-debug" * DEBUG,
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build_ext": BuildExt},
)
