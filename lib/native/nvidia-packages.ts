/** NVIDIA's libraries that LibTorch's CUDA build loads and its wheel leaves to packages of their own (`Requires-Dist`). */

export interface NvidiaPackage {
  readonly name: string;
  readonly version: string;
  /** Of the wheel, in bytes. */
  readonly size: number;
  readonly wheel: string;
  readonly sha256: string;
  /** Names under which its libraries are asked for. */
  readonly libraries: readonly string[];
}

/**
 * What torch 2.14.1 for CUDA 13.0 names: `cuda-toolkit[...]==13.0.3` with its extras, cuDNN, cuSPARSELt, NCCL, NVSHMEM; Linux,
 * x86-64. Left out are `cuda-bindings` and `triton`, which only Python uses.
 */
export const nvidiaPackages: readonly NvidiaPackage[] = [
  {
    name: 'nvidia-cuda-runtime',
    version: '13.0.96',
    size: 2_243_632,
    wheel: 'nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    sha256: '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    libraries: ['libcudart.so.13'],
  },
  {
    name: 'nvidia-cublas',
    version: '13.1.1.3',
    size: 423_138_758,
    wheel: 'nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl',
    sha256: '37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436',
    libraries: ['libcublas.so.13', 'libcublasLt.so.13', 'libnvblas.so.13'],
  },
  {
    name: 'nvidia-cuda-cupti',
    version: '13.0.85',
    size: 10_715_597,
    wheel: 'nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl',
    sha256: '4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8',
    libraries: ['libcupti.so.13'],
  },
  {
    name: 'nvidia-cuda-nvrtc',
    version: '13.0.88',
    size: 90_215_200,
    wheel: 'nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    sha256: 'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
    libraries: ['libnvrtc.so.13'],
  },
  {
    name: 'nvidia-cudnn-cu13',
    version: '9.24.0.43',
    size: 553_099_438,
    wheel: 'nvidia_cudnn_cu13-9.24.0.43-py3-none-manylinux_2_27_x86_64.whl',
    sha256: '71f181cd810e90f9b6023b01186fe82d13d65f0ec098581ee201d39fad769e4b',
    libraries: [
      'libcudnn.so.9',
      'libcudnn_adv.so.9',
      'libcudnn_cnn.so.9',
      'libcudnn_engines_precompiled.so.9',
      'libcudnn_engines_runtime_compiled.so.9',
      'libcudnn_engines_tensor_ir.so.9',
      'libcudnn_ext.so.9',
      'libcudnn_graph.so.9',
      'libcudnn_heuristic.so.9',
      'libcudnn_ops.so.9',
    ],
  },
  {
    name: 'nvidia-cufft',
    version: '12.0.0.61',
    size: 214_085_489,
    wheel: 'nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    sha256: '6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3',
    libraries: ['libcufft.so.12', 'libcufftw.so.12'],
  },
  {
    name: 'nvidia-cufile',
    version: '1.15.1.6',
    size: 1_223_672,
    wheel: 'nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    sha256: '08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44',
    libraries: ['libcufile.so.0', 'libcufile_rdma.so.1'],
  },
  {
    name: 'nvidia-curand',
    version: '10.4.0.35',
    size: 59_544_258,
    wheel: 'nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl',
    sha256: '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
    libraries: ['libcurand.so.10'],
  },
  {
    name: 'nvidia-cusolver',
    version: '12.0.4.66',
    size: 200_941_980,
    wheel: 'nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl',
    sha256: '0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112',
    libraries: ['libcusolver.so.12', 'libcusolverMg.so.12'],
  },
  {
    name: 'nvidia-cusparse',
    version: '12.6.3.3',
    size: 145_942_937,
    wheel: 'nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    sha256: '2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b',
    libraries: ['libcusparse.so.12'],
  },
  {
    name: 'nvidia-cusparselt-cu13',
    version: '0.8.1',
    size: 170_148_586,
    wheel: 'nvidia_cusparselt_cu13-0.8.1-py3-none-manylinux2014_x86_64.whl',
    sha256: '786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0',
    libraries: ['libcusparseLt.so.0'],
  },
  {
    name: 'nvidia-nccl-cu13',
    version: '2.30.7',
    size: 215_965_170,
    wheel: 'nvidia_nccl_cu13-2.30.7-py3-none-manylinux_2_18_x86_64.whl',
    sha256: 'cefa7fdb9710efd0f39c5f1be1d61ff6fc9a996c451265bd7fbdcf9455ed4b50',
    libraries: ['libnccl.so.2'],
  },
  {
    name: 'nvidia-nvjitlink',
    version: '13.4.92',
    size: 42_452_378,
    wheel: 'nvidia_nvjitlink-13.4.92-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    sha256: 'e0391f24ed94ec879b84e3da4d4ec320c879aff681f2c7a638462f7199284323',
    libraries: ['libnvJitLink.so.13'],
  },
  {
    name: 'nvidia-nvshmem-cu13',
    version: '3.4.5',
    size: 60_412_546,
    wheel: 'nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    sha256: '290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80',
    libraries: ['libnvshmem_host.so.3'],
  },
  {
    name: 'nvidia-nvtx',
    version: '13.0.85',
    size: 148_047,
    wheel: 'nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl',
    sha256: '4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4',
    libraries: ['libnvtx3interop.so.1'],
  },
];

/** Tags under which these wheels are published: pip takes a platform by its exact name. */
export const nvidiaPlatforms: readonly string[] = [
  ...[28, 27, 26, 25, 24, 18, 17, 12, 5].map((minor) => `manylinux_2_${String(minor)}_x86_64`),
  'manylinux2014_x86_64',
  'manylinux2010_x86_64',
  'manylinux1_x86_64',
];

const stemOf = (library: string): string => library.replace(/\.so(\..*)?$/, '');

/** The package a library comes from, whatever its version; null for what is not NVIDIA's. */
export function nvidiaPackageOf(library: string): NvidiaPackage | null {
  const stem = stemOf(library);
  const found = nvidiaPackages.find((item) => item.libraries.some((name) => stemOf(name) === stem));
  return found ?? null;
}
