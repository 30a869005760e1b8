# SHA-256 compress function with the SHA extensions (Intel SDM volume 2: SHA256RNDS2, SHA256MSG1, SHA256MSG2).
#
# void purgatory_sha256_ni(uint32_t state[8] /* rdi */, const uint8_t blocks[][64] /* rsi */, size_t count /* rdx */)
#
# The instructions want the state as ABEF and CDGH, highest word first. xmm0 is what SHA256RNDS2 adds.
#   xmm1 ABEF   xmm2 CDGH   xmm3..xmm6 the last sixteen message words   xmm7 scratch   xmm8 byte order
#   xmm9, xmm10 ABEF and CDGH before the block

.pushsection .text.purgatory_sha256_ni, "ax", @progbits

# Four rounds with words \m and the constants at \group of the sixteen at rax.
.macro SHA_ROUNDS group, m
	movdqa	xmm0, \m
	paddd	xmm0, [rax + 16*\group]
	sha256rnds2	xmm2, xmm1
	pshufd	xmm0, xmm0, 0x0e
	sha256rnds2	xmm1, xmm2
.endm

# \m0 (words t-16..) becomes the words after \m3; \m1, \m2, \m3 follow it.
.macro SHA_EXPAND m0, m1, m2, m3
	sha256msg1	\m0, \m1
	movdqa	xmm7, \m3
	palignr	xmm7, \m2, 4
	paddd	\m0, xmm7
	sha256msg2	\m0, \m3
.endm

.macro SHA_LOAD m, offset
	movdqu	\m, [rsi + \offset]
	pshufb	\m, xmm8
.endm

.globl purgatory_sha256_ni
.p2align 4
purgatory_sha256_ni:
	test	rdx, rdx
	jz	3f
	movdqa	xmm8, [rip + 4f]

	movdqu	xmm7, [rdi]		# DCBA
	movdqu	xmm2, [rdi + 16]	# HGFE
	pshufd	xmm7, xmm7, 0xb1	# CDAB
	pshufd	xmm2, xmm2, 0x1b	# EFGH
	movdqa	xmm1, xmm7
	palignr	xmm1, xmm2, 8		# ABEF
	pblendw	xmm2, xmm7, 0xf0	# CDGH

2:	lea	rax, [rip + {K}]
	movdqa	xmm9, xmm1
	movdqa	xmm10, xmm2
	SHA_LOAD	xmm3, 0
	SHA_ROUNDS	0, xmm3
	SHA_LOAD	xmm4, 16
	SHA_ROUNDS	1, xmm4
	SHA_LOAD	xmm5, 32
	SHA_ROUNDS	2, xmm5
	SHA_LOAD	xmm6, 48
	SHA_ROUNDS	3, xmm6
.rept 3
	add	rax, 64
	SHA_EXPAND	xmm3, xmm4, xmm5, xmm6
	SHA_ROUNDS	0, xmm3
	SHA_EXPAND	xmm4, xmm5, xmm6, xmm3
	SHA_ROUNDS	1, xmm4
	SHA_EXPAND	xmm5, xmm6, xmm3, xmm4
	SHA_ROUNDS	2, xmm5
	SHA_EXPAND	xmm6, xmm3, xmm4, xmm5
	SHA_ROUNDS	3, xmm6
.endr
	paddd	xmm1, xmm9
	paddd	xmm2, xmm10
	add	rsi, 64
	dec	rdx
	jnz	2b

	pshufd	xmm1, xmm1, 0x1b	# FEBA
	pshufd	xmm2, xmm2, 0xb1	# DCHG
	movdqa	xmm7, xmm1
	pblendw	xmm1, xmm2, 0xf0	# DCBA
	palignr	xmm2, xmm7, 8		# HGFE
	movdqu	[rdi], xmm1
	movdqu	[rdi + 16], xmm2
3:	ret

.section .rodata.purgatory_sha256_ni, "a", @progbits
.p2align 4
4:	.quad 0x0405060700010203, 0x0c0d0e0f08090a0b	# big-endian words
.popsection
