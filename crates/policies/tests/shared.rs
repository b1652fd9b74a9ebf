//! What routes share need not be whole: a policy makes something of it only in a route.

use std::path::Path;

use tidegate_config::policy::Place;
use tidegate_config::{Inputs, Memory, load};
use tidegate_policies::VOCABULARY;

#[test]
fn every_word_may_stand_in_a_bundle_before_the_rest_of_it_is_known() {
    for word in VOCABULARY.words().filter(|word| word.place == Place::Route) {
        let yaml = format!("bundles: {{ part: {{ {}: on }} }}\nroutes: [{{ respond: {{ status: 200 }} }}]\n", word.key);
        let file = Path::new("gateway.yaml");
        let source = Memory::new().with(file, yaml);
        let loaded = load(&Inputs { file, source: &source, env: &[], vocabulary: &VOCABULARY });
        assert!(loaded.is_ok(), "{}", loaded.map_or_else(|failure| failure.to_string(), |_| String::new()));
    }
}
