//! The decoder, by the examples of RFC 7541, appendix C.

use tests::http2::hpack::{Decoder, block, huffman, integer, string};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs
        .map(|pair| u8::from_str_radix(&pair, 16).unwrap())
        .collect()
}

#[track_caller]
fn decodes(decoder: &mut Decoder, hex: &str, want: &[(&str, &str)]) {
    let fields = decoder.decode(&bytes(hex)).unwrap();
    let want = want
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    assert_eq!(fields, want.collect::<Vec<_>>());
}

#[test]
fn three_requests_with_huffman_codes_and_a_dynamic_table() {
    let mut decoder = Decoder::default();
    let request = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    decodes(
        &mut decoder,
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        &request,
    );
    let request = [&request[..], &[("cache-control", "no-cache")]].concat();
    decodes(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf", &request);
    let request = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    decodes(
        &mut decoder,
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &request,
    );
}

#[test]
fn what_the_encoder_writes_is_what_the_decoder_reads() {
    assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
    assert_eq!(
        huffman("www.example.com"),
        bytes("8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")
    );
    let every_octet: String = (0..=127).map(char::from).collect();
    let mut decoder = Decoder::default();
    let coded = [vec![0], string("name"), huffman(&every_octet)].concat();
    let field = (b"name".to_vec(), every_octet.as_bytes().to_vec());
    assert_eq!(decoder.decode(&coded), Ok(vec![field.clone()]));
    assert_eq!(
        decoder.decode(&block(&[("name", &every_octet)])),
        Ok(vec![field])
    );
}

#[test]
fn a_block_that_breaks_a_rule_is_not_decoded() {
    for (hex, why) in [
        ("80", "no entry 0"),
        ("be", "no entry 62"),
        ("82 20", "a dynamic table of 0"),
        ("3f e2 1f", "a dynamic table of 4097"),
        ("ff ff ff ff ff ff", "an integer that is too long"),
        ("00 01 61 02 62", "longer than its block"),
        ("00 01 61", "cut short"),
        ("00 01 61 82 1f ff", "wrong Huffman padding"),
        ("00 01 61 81 18", "wrong Huffman padding"),
        ("00 01 61 84 ff ff ff ff", "EOS"),
    ] {
        let error = Decoder::default().decode(&bytes(hex)).unwrap_err();
        assert!(error.contains(why), "{hex}: {error}");
    }
}
