# Sourced by gpu_check.sh, with $bundle and $preset: finds CUDA's libraries on the loader's path, in the toolkit or in Python's
# wheels, and sets LD_LIBRARY_PATH, has_cublas, has_cudnn and has_nccl.
[ -n "${bundle:-}" ] && [ -n "${preset:-}" ] || { echo "gpu_libraries.sh: scripts/gpu_check.sh reads this file" >&2; exit 2; }

cuda_folders() {
  tr ':' '\n' <<< "${LD_LIBRARY_PATH:-}"
  ls -d "${CUDA_HOME:-/usr/local/cuda}"/lib64 "${CUDA_HOME:-/usr/local/cuda}"/lib /usr/local/cuda*/lib64 2>/dev/null || true
  if command -v nvcc >/dev/null; then ls -d "$(dirname "$(readlink -f "$(command -v nvcc)")")"/../lib64 2>/dev/null || true; fi
  if command -v python3 >/dev/null; then
    python3 - <<'PYTHON' 2>/dev/null || true
import glob, site, sys, sysconfig
roots = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path, *getattr(site, "getsitepackages", list)()}
for root in sorted(r for r in roots if r):
    for folder in sorted(glob.glob(root + "/nvidia/*/lib")):
        print(folder)
PYTHON
  fi
}

folders=$(cuda_folders)
loadable=$(ldconfig -p 2>/dev/null || true)
library_path=""
find_library() {   # 0 when the loader will find it, with what it needs
  local folder
  if [[ $loadable == *"$1"* ]]; then return 0; fi
  while IFS= read -r folder; do
    if [ -n "$folder" ] && [ -e "$folder/$1" ]; then
      case ":$library_path:" in *":$folder:"*) ;; *) library_path+=${library_path:+:}$folder ;; esac
      return 0
    fi
  done <<< "$folders"
  return 1
}
has_cublas=1 has_cudnn=1 has_nccl=1
find_library libcublasLt.so.13 || has_cublas=0
find_library libcudnn.so.9 || has_cudnn=0
find_library libnccl.so.2 || has_nccl=0
find_library libnvrtc.so.13 || has_cudnn=0   # cuDNN's front end links it
if [ "$preset" = cuda ] && [ "$has_cublas" = 0 ]; then
  fail "libcublasLt.so.13 is not on LD_LIBRARY_PATH, in /usr/local/cuda or in Python's wheels (nvidia-cublas)"
fi
export LD_LIBRARY_PATH=$library_path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# missing_libraries PROGRAM: a line about what the loader lacks, empty when nothing.
missing_libraries() {
  local text
  text=$(ldd "$1" 2>&1 | grep -E 'not found' || true)
  head -n 2 <<< "$text" | tr -s ' \t\n' ' ' | sed 's/^ //; s/ $//'
}
case "$(ldd "$bundle/bin/ballast" 2>&1 | grep 'not found' || true)" in
  *libstdc*|*libgcc*|*GLIBCXX*|*CXXABI*) LD_LIBRARY_PATH+=:$bundle/lib-fallback ;;
esac
