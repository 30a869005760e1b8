# XXH3's inner loop with SSE2, which every x86_64 has: two lanes in a register.
#
# void purgatory_xxh3_sse2(uint64_t acc[8] /* rdi */, const uint8_t blocks[][16][64] /* rsi */, size_t count /* rdx */,
#                          const uint64_t secret[24] /* rcx */)
#
#   xmm0..xmm3 accumulators   xmm4..xmm6 scratch   xmm7 PRIME32_1 in each half   rax where in the secret   r8d stripes left

.pushsection .text.purgatory_xxh3_sse2, "ax", @progbits

# Two lanes: the data goes to the neighbour, the product of its two halves under the key to the lane itself.
.macro XXH_LANES offset, acc
	movdqu	xmm4, [rsi + \offset]
	movdqu	xmm5, [rax + \offset]
	pxor	xmm5, xmm4
	pshufd	xmm6, xmm5, 0x31
	pmuludq	xmm5, xmm6
	pshufd	xmm4, xmm4, 0x4e
	paddq	\acc, xmm4
	paddq	\acc, xmm5
.endm

.macro XXH_SCRAMBLE offset, acc
	movdqa	xmm4, \acc
	psrlq	xmm4, 47
	pxor	\acc, xmm4
	movdqu	xmm5, [rax + \offset]
	pxor	\acc, xmm5
	pshufd	xmm4, \acc, 0x31
	pmuludq	\acc, xmm7
	pmuludq	xmm4, xmm7
	psllq	xmm4, 32
	paddq	\acc, xmm4
.endm

.globl purgatory_xxh3_sse2
.p2align 4
purgatory_xxh3_sse2:
	test	rdx, rdx
	jz	3f
	movdqu	xmm0, [rdi]
	movdqu	xmm1, [rdi + 16]
	movdqu	xmm2, [rdi + 32]
	movdqu	xmm3, [rdi + 48]
	mov	eax, 0x9e3779b1
	movd	xmm7, eax
	pshufd	xmm7, xmm7, 0
1:	mov	rax, rcx
	mov	r8d, 16
.p2align 4
2:	prefetcht0	[rsi + 4096]	# 512 bytes ahead the same memory was read a quarter slower
	XXH_LANES	0, xmm0
	XXH_LANES	16, xmm1
	XXH_LANES	32, xmm2
	XXH_LANES	48, xmm3
	add	rsi, 64
	add	rax, 8
	dec	r8d
	jnz	2b
	XXH_SCRAMBLE	0, xmm0
	XXH_SCRAMBLE	16, xmm1
	XXH_SCRAMBLE	32, xmm2
	XXH_SCRAMBLE	48, xmm3
	dec	rdx
	jnz	1b
	movdqu	[rdi], xmm0
	movdqu	[rdi + 16], xmm1
	movdqu	[rdi + 32], xmm2
	movdqu	[rdi + 48], xmm3
3:	ret
.popsection
