/** NVIDIA's libraries that LibTorch's CUDA build loads and its wheel leaves to packages of their own (`Requires-Dist`). */

export interface NvidiaPackage {
  readonly name: string;
  readonly version: string;
  /** Of the wheel, in bytes. */
  readonly size: number;
  readonly wheel: string;
  readonly sha256: string;
  /** Its libraries, without `lib` and `.so`. */
  readonly libraries: readonly string[];
}

function item(wheel: string, size: number, sha256: string, libraries: string): NvidiaPackage {
  const [name = '', version = ''] = wheel.split('-');
  return {
    ...{ name: name.replaceAll('_', '-'), version, wheel, size, sha256 },
    libraries: libraries.split(' '),
  };
}

/**
 * What torch 2.14.1 for CUDA 13.0 names: `cuda-toolkit[...]==13.0.3` with its extras, cuDNN, cuSPARSELt, NCCL, NVSHMEM; Linux,
 * x86-64. Left out are `cuda-bindings` and `triton`, which only Python uses.
 */
export const nvidiaPackages: readonly NvidiaPackage[] = [
  item(
    'nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    2_243_632,
    '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    'cudart',
  ),
  item(
    'nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl',
    423_138_758,
    '37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436',
    'cublas cublasLt nvblas',
  ),
  item(
    'nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl',
    10_715_597,
    '4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8',
    'cupti',
  ),
  item(
    'nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    90_215_200,
    'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
    'nvrtc',
  ),
  item(
    'nvidia_cudnn_cu13-9.24.0.43-py3-none-manylinux_2_27_x86_64.whl',
    553_099_438,
    '71f181cd810e90f9b6023b01186fe82d13d65f0ec098581ee201d39fad769e4b',
    'cudnn cudnn_adv cudnn_cnn cudnn_engines_precompiled cudnn_engines_runtime_compiled cudnn_engines_tensor_ir cudnn_ext cudnn_graph cudnn_heuristic cudnn_ops',
  ),
  item(
    'nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    214_085_489,
    '6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3',
    'cufft cufftw',
  ),
  item(
    'nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    1_223_672,
    '08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44',
    'cufile cufile_rdma',
  ),
  item(
    'nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl',
    59_544_258,
    '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
    'curand',
  ),
  item(
    'nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl',
    200_941_980,
    '0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112',
    'cusolver cusolverMg',
  ),
  item(
    'nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    145_942_937,
    '2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b',
    'cusparse',
  ),
  item(
    'nvidia_cusparselt_cu13-0.8.1-py3-none-manylinux2014_x86_64.whl',
    170_148_586,
    '786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0',
    'cusparseLt',
  ),
  item(
    'nvidia_nccl_cu13-2.30.7-py3-none-manylinux_2_18_x86_64.whl',
    215_965_170,
    'cefa7fdb9710efd0f39c5f1be1d61ff6fc9a996c451265bd7fbdcf9455ed4b50',
    'nccl',
  ),
  item(
    'nvidia_nvjitlink-13.4.92-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    42_452_378,
    'e0391f24ed94ec879b84e3da4d4ec320c879aff681f2c7a638462f7199284323',
    'nvJitLink',
  ),
  item(
    'nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    60_412_546,
    '290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80',
    'nvshmem_host',
  ),
  item(
    'nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl',
    148_047,
    '4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4',
    'nvtx3interop',
  ),
];

/** The package of a library of any version; null if it is not NVIDIA's. */
export function nvidiaPackageOf(library: string): NvidiaPackage | null {
  const stem = /^lib(.+?)\.so(\..*)?$/.exec(library)?.[1] ?? '';
  return nvidiaPackages.find((item) => item.libraries.includes(stem)) ?? null;
}
