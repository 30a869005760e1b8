# SHA-256 compress function with the SHA extensions (Intel SDM volume 2: SHA256RNDS2, SHA256MSG1, SHA256MSG2), for one message
# and for two at once: an instruction waits for the one before it, and the other message's fill the gap.
#
# void purgatory_sha256_ni(uint32_t state[8] /* rdi */, const uint8_t blocks[][64] /* rsi */, size_t count /* rdx */)
# void purgatory_sha256_ni_pair(the same, uint32_t second_state[8] /* rcx */, const uint8_t second_blocks[][64] /* r8 */)
#
# The instructions want the state as ABEF and CDGH, highest word first. xmm0 is what SHA256RNDS2 adds.
#   first:  xmm1 ABEF   xmm2 CDGH   xmm3..xmm6 the last sixteen message words   xmm7 scratch
#   second: xmm8        xmm9        xmm10..xmm13                                xmm14
#   both:   xmm15 byte order; on the stack ABEF and CDGH before the block

.pushsection .text.purgatory_sha256_ni, "ax", @progbits

# Four rounds of one message with words \m and the constants at \group of the sixteen at rax.
.macro SHA_ROUNDS group, abef, cdgh, m
	movdqa	xmm0, \m
	paddd	xmm0, [rax + 16*\group]
	sha256rnds2	\cdgh, \abef
	pshufd	xmm0, xmm0, 0x0e
	sha256rnds2	\abef, \cdgh
.endm

# \m0 (words t-16..) becomes the words after \m3; \m1, \m2, \m3 follow it.
.macro SHA_EXPAND scratch, m0, m1, m2, m3
	sha256msg1	\m0, \m1
	movdqa	\scratch, \m3
	palignr	\scratch, \m2, 4
	paddd	\m0, \scratch
	sha256msg2	\m0, \m3
.endm

# Four rounds with the next four words of each message, which are expanded first unless they are loaded.
.macro SHA_LOADED pair, group, m, n
	movdqu	\m, [rsi + 16*\group]
	pshufb	\m, xmm15
.if \pair
	movdqu	\n, [r8 + 16*\group]
	pshufb	\n, xmm15
.endif
	SHA_ROUNDS	\group, xmm1, xmm2, \m
.if \pair
	SHA_ROUNDS	\group, xmm8, xmm9, \n
.endif
.endm

.macro SHA_EXPANDED pair, group, m0, m1, m2, m3, n0, n1, n2, n3
	SHA_EXPAND	xmm7, \m0, \m1, \m2, \m3
.if \pair
	SHA_EXPAND	xmm14, \n0, \n1, \n2, \n3
.endif
	SHA_ROUNDS	\group, xmm1, xmm2, \m0
.if \pair
	SHA_ROUNDS	\group, xmm8, xmm9, \n0
.endif
.endm

.macro SHA_STATE_IN from, abef, cdgh, scratch
	movdqu	\scratch, [\from]		# DCBA
	movdqu	\cdgh, [\from + 16]		# HGFE
	pshufd	\scratch, \scratch, 0xb1	# CDAB
	pshufd	\cdgh, \cdgh, 0x1b		# EFGH
	movdqa	\abef, \scratch
	palignr	\abef, \cdgh, 8		# ABEF
	pblendw	\cdgh, \scratch, 0xf0		# CDGH
.endm

.macro SHA_STATE_OUT to, abef, cdgh, scratch
	pshufd	\abef, \abef, 0x1b		# FEBA
	pshufd	\cdgh, \cdgh, 0xb1		# DCHG
	movdqa	\scratch, \abef
	pblendw	\abef, \cdgh, 0xf0		# DCBA
	palignr	\cdgh, \scratch, 8		# HGFE
	movdqu	[\to], \abef
	movdqu	[\to + 16], \cdgh
.endm

.macro SHA_BLOCKS pair
	test	rdx, rdx
	jz	9f
	push	rbp
	mov	rbp, rsp
	sub	rsp, 64
	and	rsp, -16
	movdqa	xmm15, [rip + 4f]
	SHA_STATE_IN	rdi, xmm1, xmm2, xmm7
.if \pair
	SHA_STATE_IN	rcx, xmm8, xmm9, xmm14
.endif

2:	lea	rax, [rip + {K}]
	movdqa	[rsp], xmm1
	movdqa	[rsp + 16], xmm2
.if \pair
	movdqa	[rsp + 32], xmm8
	movdqa	[rsp + 48], xmm9
.endif
	SHA_LOADED	\pair, 0, xmm3, xmm10
	SHA_LOADED	\pair, 1, xmm4, xmm11
	SHA_LOADED	\pair, 2, xmm5, xmm12
	SHA_LOADED	\pair, 3, xmm6, xmm13
.rept 3
	add	rax, 64
	SHA_EXPANDED	\pair, 0, xmm3, xmm4, xmm5, xmm6, xmm10, xmm11, xmm12, xmm13
	SHA_EXPANDED	\pair, 1, xmm4, xmm5, xmm6, xmm3, xmm11, xmm12, xmm13, xmm10
	SHA_EXPANDED	\pair, 2, xmm5, xmm6, xmm3, xmm4, xmm12, xmm13, xmm10, xmm11
	SHA_EXPANDED	\pair, 3, xmm6, xmm3, xmm4, xmm5, xmm13, xmm10, xmm11, xmm12
.endr
	paddd	xmm1, [rsp]
	paddd	xmm2, [rsp + 16]
	add	rsi, 64
.if \pair
	paddd	xmm8, [rsp + 32]
	paddd	xmm9, [rsp + 48]
	add	r8, 64
.endif
	dec	rdx
	jnz	2b

	SHA_STATE_OUT	rdi, xmm1, xmm2, xmm7
.if \pair
	SHA_STATE_OUT	rcx, xmm8, xmm9, xmm14
.endif
	mov	rsp, rbp
	pop	rbp
9:	ret
.endm

.globl purgatory_sha256_ni
.p2align 4
purgatory_sha256_ni:
	SHA_BLOCKS 0

.globl purgatory_sha256_ni_pair
.p2align 4
purgatory_sha256_ni_pair:
	SHA_BLOCKS 1

.section .rodata.purgatory_sha256_ni, "a", @progbits
.p2align 4
4:	.quad 0x0405060700010203, 0x0c0d0e0f08090a0b	# big-endian words
.popsection
